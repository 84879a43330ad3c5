"""Dual encoders: every kind learns, saves, loads and acts; its towers see as transformers' do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearer.actions import NUM_TOKENS
from nearer.checkpoint import load_model, save_checkpoint, weights_hash
from nearer.errors import CheckpointError, ConfigError
from nearer.model import Inputs
from nearer.models.build import build_model, new_model
from nearer.models.vlm.config import VLMConfig
from nearer.models.vlm.dual import DualEncoder
from nearer.models.vlm.dual_source import pretrained_dual
from nearer.models.vlm.looking import LookingSizes
from nearer.models.vlm.source import open_source
from nearer.protocols import Camera, Spaces
from tiny_duals import KINDS, make_dual

SPACES = Spaces(
    agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 24, 40),), control_hz=5
)
INSTRUCTIONS = ("move the red moon to the blue cube", "push the blue cube", "slide it") * 2
ROBOTS = len(INSTRUCTIONS)
SMALL = LookingSizes(width=16, queries=2, heads=2, hidden=16, dropout=0.0)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("duals")
    return {kind: make_dual(root / kind, kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def made(folder: Path, settings: VLMConfig | None = None) -> DualEncoder:
    source = open_source(str(folder))
    return pretrained_dual(source, settings or VLMConfig(), SPACES, SMALL)


def pictures() -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {"top": draw.integers(0, 256, (ROBOTS, 24, 40, 3), dtype=np.uint8)}


def asked(model: DualEncoder) -> Inputs:
    """Return questions whose frames differ from the frames before."""
    sight = model.sight
    looks = sight.look(pictures(), INSTRUCTIONS)
    features = sight.follow(sight.follow(None, looks), looks[::-1].copy())
    state = torch.linspace(-1, 1, 2 * ROBOTS).reshape(ROBOTS, 2)
    return Inputs(state=state, features=torch.from_numpy(features), instructions=INSTRUCTIONS)


def chance() -> list[np.random.Generator]:
    return [np.random.default_rng(robot) for robot in range(ROBOTS)]


def test_a_step_is_learned_saved_loaded_and_acted(folder: Path, tmp_path: Path) -> None:
    model = made(folder)
    inputs = asked(model)
    actions = torch.randn(ROBOTS, 2, generator=torch.Generator().manual_seed(0))
    model.normalise_by(inputs, actions)
    before = weights_hash(model.network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses: list[float] = []
    for _ in range(4):
        logits = model.train().steps_to_go_logits(inputs)
        right = torch.nn.functional.cross_entropy(logits, torch.arange(ROBOTS))
        loss = right - model.log_prob(inputs, actions).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert weights_hash(model.network) == before, "both towers are frozen"
    save_checkpoint(tmp_path / "one", model.eval(), None)
    again = load_model(tmp_path / "one", build_model)
    assert isinstance(again, DualEncoder)
    assert weights_hash(again) == weights_hash(model)
    looks = [one.sight.look(pictures(), INSTRUCTIONS) for one in (model, again)]
    assert np.array_equal(*looks)
    with torch.inference_mode():
        expected, found = model.sample(inputs, chance()), again.sample(inputs, chance())
    assert torch.equal(expected[0], found[0])
    torch.testing.assert_close(expected[1], found[1])


def test_towers_see_and_read_as_transformers_do(folder: Path) -> None:
    """The whole picture's vector, and the sentence's, are those of get_*_features."""
    model = made(folder)
    network = model.network.eval()
    pixels = model.preparing[0](torch.from_numpy(pictures()["top"]))
    more: dict[str, Any] = {"pixel_values": pixels}
    if model.towers.config.model_type == "siglip2":
        rows, columns = model.towers.grid(*pixels.shape[2:])
        patches = [
            one[:, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].permute(1, 2, 0).flatten()
            for one in pixels
            for y in range(rows)
            for x in range(columns)
        ]
        more = {
            "pixel_values": torch.stack(patches).reshape(ROBOTS, rows * columns, -1),
            "pixel_attention_mask": torch.ones(ROBOTS, rows * columns, dtype=torch.int64),
            "spatial_shapes": torch.tensor([[rows, columns]] * ROBOTS),
        }
    with torch.inference_mode():
        theirs = network.get_image_features(**more, return_dict=True).pooler_output
        ours = model.see(torch.from_numpy(pictures()["top"]), 0)
        tokens = torch.tensor([model.sentences.tokens(INSTRUCTIONS[0])])
        read = network.get_text_features(tokens, return_dict=True).pooler_output[0]
    torch.testing.assert_close(ours[:, -1], theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.vectors(INSTRUCTIONS[:1])[0], read, rtol=1e-4, atol=1e-4)
    assert ours[:, :-1].std(dim=1).max() > 1e-3, "patches differ"


def test_both_questions_at_once_are_the_same_answers(folder: Path) -> None:
    model = made(folder).eval()
    inputs = asked(model)
    with torch.inference_mode():
        actions, log_prob = model.sample(inputs, chance())
        both = model.answers(inputs, chance())
        assert torch.equal(both[0], actions)
        torch.testing.assert_close(log_prob, model.log_prob(inputs, actions), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(both[2], model.steps_to_go_logits(inputs))


def test_probabilities_of_all_actions_sum_to_one(folder: Path) -> None:
    model = made(folder).eval()
    inputs = asked(model).rows(torch.tensor([1] * NUM_TOKENS**2))
    tokens = torch.cartesian_prod(torch.arange(NUM_TOKENS), torch.arange(NUM_TOKENS))
    with torch.inference_mode():
        total = model.log_prob(inputs, model.tokens.decode(tokens)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-4)


def test_answers_depend_on_picture_before_words_and_state(folder: Path) -> None:
    model = made(folder).eval()
    inputs = asked(model)
    before = inputs.features.clone()
    before[:, : model.sight.look_width] = before[:1, : model.sight.look_width]
    others = {
        "the frame before": replace(inputs, features=before),
        "words": replace(inputs, instructions=INSTRUCTIONS[::-1]),
        "state": replace(inputs, state=inputs.state.flip(0)),
    }
    with torch.inference_mode():
        logits = model.steps_to_go_logits(inputs)
        for what, other in others.items():
            assert (model.steps_to_go_logits(other) - logits).abs().max() > 1e-4, what


def test_a_trained_tower_learns_and_is_frozen_once_it_is_loaded(
    folder: Path, tmp_path: Path
) -> None:
    model = made(folder, VLMConfig(tower="trained"))
    inputs = asked(model)
    model.train().steps_to_go_logits(inputs).square().mean().backward()
    tower = [one for part in model.tower for one in part.parameters()]
    assert sum(one.grad is not None for one in tower) > len(tower) / 2
    with torch.inference_mode():
        expected = model.eval().steps_to_go_logits(inputs)
    save_checkpoint(tmp_path / "one", model, None)
    again = load_model(tmp_path / "one", build_model)
    assert isinstance(again, DualEncoder)
    assert not any(one.requires_grad for one in again.network.parameters())
    with torch.inference_mode():
        found = again.steps_to_go_logits(asked(again))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_what_cannot_serve_is_refused(folder: Path, tmp_path: Path) -> None:
    model = made(folder)
    with pytest.raises(ConfigError, match="at most"):
        model.sentences.tokens("push " * 40)
    end = model.sentences.form.end
    if model.sentences.form.bare:
        assert model.sentences.tokens(f"push {end} it") == model.sentences.tokens("push s it")
    else:
        with pytest.raises(ConfigError, match="instruction"):
            model.sentences.tokens(f"push {end} it")
    for settings, reason in (
        (VLMConfig(adapt="lora"), "--vlm.adapt must be full"),
        (VLMConfig(picture_px=20), "--vlm.picture-px must be a multiple of 8"),
    ):
        with pytest.raises(ConfigError, match=reason):
            made(folder, settings)
    blind = replace(SPACES, cameras=())
    with pytest.raises(ConfigError, match="camera"):
        pretrained_dual(open_source(str(folder)), VLMConfig(), blind, SMALL)
    save_checkpoint(tmp_path / "one", model, None)
    (tmp_path / "one/pretrained_model/tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_model(tmp_path / "one", build_model)


def test_a_name_makes_a_model(folder: Path) -> None:
    model = new_model(str(folder), VLMConfig(), SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(model, DualEncoder)
