"""Dual encoders: every kind learns, saves, loads and acts; vectors are transformers' own."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from asking import INSTRUCTIONS, ROBOTS, SPACES, asked, chance, learn, pictures
from nearer.algorithm.action_tokens import NUM_TOKENS
from nearer.algorithm.model import Inputs
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import build_model, new_model
from nearer.models.settings import VLMConfig
from nearer.models.vlm.attention_pooling import Looking, LookingSizes
from nearer.models.vlm.dual_encoder import DualEncoder
from nearer.models.vlm.dual_encoder_loading import pretrained_dual
from nearer.models.vlm.loading import num_parameters, open_source
from nearer.models.vlm.memory_check import dual_bytes_needed
from nearer.runs.checkpoint import load_model, save_checkpoint, weights_hash
from nearer.testing import check_model
from tiny_duals import KINDS, LONGEST, make_dual

TINY = LookingSizes(width=16, queries=2, heads=2, hidden=16)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("duals")
    return {kind: make_dual(root / kind, kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture(params=["clip", "siglip2"])
def either(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    """Return a model's folder where kinds differ in how they see alone."""
    return folders[request.param]


@pytest.fixture
def clip(folders: dict[str, Path]) -> Path:
    return folders["clip"]


def made(folder: Path, settings: VLMConfig | None = None, spaces: Spaces = SPACES) -> DualEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        settings = settings or VLMConfig()
        return pretrained_dual(open_source(str(folder)), settings, spaces, sizes=TINY)


def test_a_step_is_learned_saved_loaded_and_acted(folder: Path, tmp_path: Path) -> None:
    model = made(folder)
    inputs = asked(model)
    before = weights_hash(model.network)
    losses = learn(model, inputs, updates=5)
    assert losses[-1] < losses[0]
    assert weights_hash(model.network) == before, "both towers are frozen"
    save_checkpoint(tmp_path / "one", model, None)
    again = load_model(tmp_path / "one", build_model)
    assert isinstance(again, DualEncoder)
    assert weights_hash(again) == weights_hash(model)
    assert again.vision_encoder.identity == model.vision_encoder.identity
    assert torch.equal(asked(again).features, inputs.features)
    with torch.inference_mode():
        expected, found = model.answers(inputs, chance()), again.answers(inputs, chance())
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_model_keeps_the_contract(either: Path) -> None:
    model = made(either).eval()
    inputs = asked(model)
    check_model(model, inputs)
    with torch.inference_mode():
        actions, log_prob = model.sample(inputs, chance())
        both = model.answers(inputs, chance())
        assert torch.equal(both[0], actions)
        assert torch.equal(both[1], log_prob)
        assert torch.equal(both[2], model.steps_to_go_logits(inputs))
    assert log_prob.std() > 0.01


def their_tokens(either: Path, text: str) -> Tensor:
    """Return the tokens of transformers' own tokenizer; worked by hand for SigLIP.

    SigLIP's tokenizer needs a package that is not here. It lowers, leaves out punctuation, splits
    at spaces and fills up with ends.
    """
    if either.name == "siglip":
        tokenizer = made(either).sentences.tokenizer
        pieces = [one for word in text.split() for one in tokenizer.encode(word).ids]
        return torch.tensor([[*pieces, *[1] * (LONGEST - len(pieces))]])
    more = {} if either.name == "clip" else {"padding": "max_length", "max_length": LONGEST}
    tokenizer = cast(Any, AutoTokenizer).from_pretrained(str(either))
    return tokenizer(text, return_tensors="pt", **more)["input_ids"]


def test_a_sentence_is_what_transformers_makes_of_it(folder: Path) -> None:
    model = made(folder)
    theirs = cast(Any, AutoModel).from_pretrained(str(folder))
    bare = folder.name == "siglip"
    spoken = {
        "push the blue cube": "push the blue cube",
        "Push the RED cube, slide!": "push the red cube slide"
        if bare
        else "Push the RED cube, slide!",
    }
    for text, plain in spoken.items():
        tokens = their_tokens(folder, plain)
        assert model.sentences.tokens(text) == tokens[0].tolist()
        with torch.inference_mode():
            expected = theirs.get_text_features(tokens).pooler_output
        torch.testing.assert_close(model.vectors([text]), expected, rtol=1e-5, atol=1e-5)
    far = model.vectors(["push the blue cube", "slide it"])
    assert (far[0] - far[1]).abs().max() > 0.01


def their_picture(folder: Path, picture: Any) -> dict[str, Tensor]:
    """Return what transformers' own processor makes of a picture, filling the square."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    values = open_source(str(folder)).processor
    kind = Siglip2ImageProcessorPil if folder.name == "siglip2" else SiglipImageProcessorPil
    return dict(cast(Any, kind)(**values)(picture, return_tensors="pt"))


def test_a_picture_is_what_transformers_makes_of_it(folder: Path) -> None:
    """The whole picture's vector, from bytes on; "naflex" is padded there and not here."""
    model = made(folder)
    theirs = cast(Any, AutoModel).from_pretrained(str(folder))
    for picture in pictures(2)["top"]:
        with torch.inference_mode():
            ours = model.see(torch.from_numpy(picture)[None], 0)
            expected = theirs.get_image_features(**their_picture(folder, picture)).pooler_output
        assert ours.shape[1] == model.counts[0]
        # Resizing is equal to within a level and a half of 255.
        torch.testing.assert_close(ours[:, -1], expected, rtol=0.05, atol=0.05)
        assert (ours[:, :-1] - ours[:, -1:]).abs().max() > 0.1


def test_the_same_pixels_are_the_same_vector(folder: Path) -> None:
    model = made(folder)
    theirs = cast(Any, AutoModel).from_pretrained(str(folder))
    found = their_picture(folder, pictures(1)["top"][0])
    pixels = found["pixel_values"]
    if folder.name == "siglip2":
        rows, columns = found["spatial_shapes"][0].tolist()
        assert (rows, columns) == model.towers.grid(
            model.preparing[0].height, model.preparing[0].width
        )
        assert pixels.shape[1] > rows * columns, "theirs is padded"
        cut = pixels[0, : rows * columns].reshape(rows, columns, 8, 8, 3)
        pixels = cut.permute(4, 0, 2, 1, 3).reshape(1, 3, rows * 8, columns * 8)
    with torch.inference_mode():
        ours = model.towers.see(model.network, pixels)[:, -1]
        expected = theirs.get_image_features(**found).pooler_output
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_patch_goes_the_towers_own_way_into_the_shared_space(folder: Path) -> None:
    """CLIP: norm and projection. SigLIP: what a pool of one key returns, its value, and the MLP."""
    model = made(folder).eval()
    pixels = model.preparing[0](torch.from_numpy(pictures(1)["top"]))
    tower = model.network.vision_model
    kept: list[Tensor] = []
    watched = tower.encoder if folder.name == "clip" else tower.post_layernorm
    hook = watched.register_forward_hook(
        lambda _, inputs, output: kept.append(getattr(output, "last_hidden_state", output))
    )
    with torch.inference_mode():
        ours = model.towers.see(model.network, pixels)[0, 2]
        hook.remove()
        if folder.name == "clip":
            expected = model.network.visual_projection(tower.post_layernorm(kept[0][0, 1 + 2]))
        else:
            head = tower.head
            weight, bias = (
                getattr(head.attention, f"in_proj_{one}")[-32:] for one in ("weight", "bias")
            )
            value = head.attention.out_proj(kept[0][0, 2] @ weight.T + bias)
            expected = value + head.mlp(head.layernorm(value))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_probabilities_of_all_actions_sum_to_one(clip: Path) -> None:
    model = made(clip).eval()
    inputs = asked(model).rows(torch.tensor([1] * NUM_TOKENS**2))
    tokens = torch.cartesian_prod(torch.arange(NUM_TOKENS), torch.arange(NUM_TOKENS))
    with torch.inference_mode():
        total = model.log_prob(inputs, model.tokens.decode(tokens)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-4)


def test_answers_depend_on_picture_before_words_and_state_and_not_on_others(either: Path) -> None:
    model = made(either).eval()
    inputs = asked(model)
    before = inputs.features.clone()
    before[:, : model.vision_encoder.encoding_width] = before[
        :1, : model.vision_encoder.encoding_width
    ]
    others = {
        "the frame before": replace(inputs, features=before),
        "words": replace(inputs, instructions=INSTRUCTIONS[::-1]),
        "state": replace(inputs, state=inputs.state.flip(0)),
    }
    with torch.inference_mode():
        logits = model.steps_to_go_logits(inputs)
        for what, other in others.items():
            assert (model.steps_to_go_logits(other) - logits).abs().max() > 1e-3, what
        alone = [model.steps_to_go_logits(inputs.rows(slice(i, i + 1))) for i in range(ROBOTS)]
    torch.testing.assert_close(torch.cat(alone), logits, rtol=1e-4, atol=1e-4)


def test_a_sentence_is_read_once_also_when_nothing_can_be_learned_from_it_yet(clip: Path) -> None:
    model = made(clip)
    read: list[Any] = []
    model.network.text_model.register_forward_hook(lambda *_: read.append(None))
    inputs = asked(model)
    with torch.inference_mode():
        model.eval().sample(inputs, chance())
    model.train().steps_to_go_logits(inputs).square().mean().backward()
    assert len(read) == len(set(INSTRUCTIONS))


@pytest.mark.parametrize("tower", ["frozen", "trained"])
def test_what_shall_learn_learns_and_nothing_else(either: Path, tower: Any) -> None:
    settings = VLMConfig(tower=tower, checkpointing=tower == "trained", precision="bfloat16")
    model = made(either, settings)
    inputs = asked(model)
    model.train().steps_to_go_logits(inputs).square().mean().backward()
    model.log_prob(inputs, torch.randn(ROBOTS, 2)).mean().backward()
    learned = {name for name, one in model.named_parameters() if one.grad is not None}
    wanted = {name for name, one in model.named_parameters() if one.requires_grad}
    assert learned == wanted, "several processes want every weight that learns to be used"
    within = {name for name in learned if name.startswith("network.")}
    parts = {id(one) for part in model.tower for one in part.parameters()}
    towers = {name for name, one in model.named_parameters() if id(one) in parts}
    assert within == (towers if tower == "trained" else set())
    assert all(one.isfinite().all() for one in model.parameters())


def test_a_trained_tower_is_frozen_once_it_is_loaded(either: Path, tmp_path: Path) -> None:
    model = made(either, VLMConfig(tower="trained"))
    assert model.vision_encoder.width == 2 * 24 * 40 * 3, "Stage 1 sees the pictures themselves"
    before = weights_hash(torch.nn.ModuleList(model.tower))
    text = weights_hash(model.network.text_model)
    learn(model, asked(model), updates=1)
    assert weights_hash(torch.nn.ModuleList(model.tower)) != before
    assert weights_hash(model.network.text_model) == text
    with torch.inference_mode():
        expected = model.steps_to_go_logits(asked(model))
    save_checkpoint(tmp_path / "one", model, None)
    again = load_model(tmp_path / "one", build_model)
    assert isinstance(again, DualEncoder)
    assert not any(one.requires_grad for one in again.network.parameters())
    with torch.inference_mode():
        found = again.steps_to_go_logits(asked(again))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_picture_of_one_colour_teaches_without_nan(either: Path) -> None:
    model = made(either, VLMConfig(tower="trained"))
    encodings = model.vision_encoder.encode(
        {"top": np.zeros((ROBOTS, 24, 40, 3), np.uint8)}, INSTRUCTIONS
    )
    features = torch.from_numpy(model.vision_encoder.track(None, encodings))
    inputs = replace(asked(model), features=features)
    model.steps_to_go_logits(inputs).square().mean().backward()
    assert all(one.grad.isfinite().all() for one in model.parameters() if one.grad is not None)


def test_a_query_that_wants_one_patch_says_where_it_is() -> None:
    """By hand: 2 x 4 patches; the sentence is the vector of the patch below right of the middle."""
    looking = Looking(LookingSizes(width=4, queries=1, heads=1), 8, [(2, 4)], frames=1)
    with torch.no_grad():
        looking.sharpness.fill_(1000.0)
    patches = torch.cat([torch.eye(8), torch.zeros(1, 8)])[None]
    seen = looking([patches], torch.eye(8)[[6]])
    where, whole = seen[0, -3:-1], seen[0, -1]
    torch.testing.assert_close(where, torch.tensor([0.25, 0.5]))
    assert whole == 0


def test_smaller_pictures_are_fewer_patches(either: Path) -> None:
    model = made(either, VLMConfig(image_px=16, frames=1))
    assert model.counts == [5]
    assert model.vision_encoder.width == 5 * model.towers.width
    with pytest.raises(ConfigError, match=r"--vlm\.image-px must be a multiple of 8"):
        made(either, VLMConfig(image_px=20))
    with pytest.raises(ConfigError, match="at most"):
        made(either, VLMConfig(image_px=64))


def test_several_cameras_and_no_state(either: Path) -> None:
    two = replace(SPACES, agent_pos=0, cameras=(Camera("top", 24, 40), Camera("wrist", 16, 16)))
    model = made(either, spaces=two).eval()
    images = pictures() | {"wrist": np.zeros((ROBOTS, 16, 16, 3), dtype=np.uint8)}
    encodings = model.vision_encoder.encode(images, INSTRUCTIONS)
    images["wrist"] += 200
    other = model.vision_encoder.encode(images, INSTRUCTIONS)
    first = model.widths[0]
    assert np.array_equal(encodings[:, :first], other[:, :first])
    assert not np.array_equal(encodings[:, first:], other[:, first:])
    features = torch.from_numpy(model.vision_encoder.track(None, encodings))
    inputs = Inputs(state=torch.zeros(ROBOTS, 0), features=features, instructions=INSTRUCTIONS)
    model.normalise_by(inputs, torch.randn(ROBOTS, 2))
    check_model(model, inputs)
    assert model.normalised_inputs(inputs).shape == (ROBOTS, 4 * model.towers.width)


def test_an_instruction_is_a_sentence_of_words(folder: Path) -> None:
    model = made(folder)
    with pytest.raises(
        ConfigError, match=f"at most {LONGEST - 1 - (folder.name == 'clip')} tokens"
    ):
        model.vectors(["go " * 50])
    if folder.name == "siglip":  # there it is punctuation
        return
    end = "<|endoftext|>" if folder.name == "clip" else "<eos>"
    with pytest.raises(ConfigError, match="must be words"):
        model.vectors([f"push it {end} or not"])


def copy_of(folder: Path, to: Path, **files: str | None) -> str:
    """Return a copy of a model's folder with some files replaced, or left out."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    for file, text in files.items():
        path = to / file.replace("_json", ".json")
        path.unlink() if text is None else path.write_text(text)
    return str(to)


def test_what_cannot_serve_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    clip, siglip = folders["clip"], folders["siglip"]
    other = '{"model_type": "chinese_clip", "vision_config": {}}'
    other = copy_of(clip, tmp_path / "other", config_json=other)
    with pytest.raises(ConfigError, match=r"dual encoder .*'chinese_clip', which reads pictures"):
        open_source(other)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        open_source(copy_of(clip, tmp_path / "mute", tokenizer_json=None))
    headless = (siglip / "config.json").read_text()
    headless = headless.replace('"vision_use_head": true', '"vision_use_head": false')
    with pytest.raises(ConfigError, match="vision_use_head"):
        made(Path(copy_of(siglip, tmp_path / "headless", config_json=headless)))
    words = (siglip / "tokenizer.json").read_text()
    with pytest.raises(ConfigError, match=r"<\|endoftext\|>"):
        made(Path(copy_of(clip, tmp_path / "words", tokenizer_json=words)))
    ends = (clip / "config.json").read_text().replace('"eos_token_id": 1', '"eos_token_id": 7')
    with pytest.raises(ConfigError, match="as token 7"):
        made(Path(copy_of(clip, tmp_path / "ends", config_json=ends)))
    with pytest.raises(ConfigError, match="camera"):
        made(clip, spaces=replace(SPACES, cameras=()))
    for settings, reason in (
        (VLMConfig(adapt="lora"), "--vlm.adapt must be full"),
        (VLMConfig(checkpointing=True), "--vlm.checkpointing must go with --vlm.tower trained"),
    ):
        with pytest.raises(ConfigError, match=reason):
            made(clip, settings)


def test_weights_that_are_torn_or_of_one_tower_are_refused(clip: Path, tmp_path: Path) -> None:
    torn = Path(copy_of(clip, tmp_path / "torn"))
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="safetensors"):
        made(torn)
    half = Path(copy_of(clip, tmp_path / "half"))
    cast(Any, AutoModel).from_pretrained(str(clip)).vision_model.save_pretrained(
        str(tmp_path / "v")
    )
    (half / "model.safetensors").write_bytes((tmp_path / "v/model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"got none for .* more"):
        made(half)


def test_checkpoints_of_another_preparation_or_without_words_are_refused(
    clip: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "one", made(clip), None)
    config = tmp_path / "one/pretrained_model/config.json"
    whole = config.read_text()
    config.write_text(whole.replace('"bicubic"', '"bilinear"'))
    with pytest.raises(CheckpointError, match="prepared in another way"):
        load_model(tmp_path / "one", build_model)
    config.write_text(whole)
    (tmp_path / "one/pretrained_model/tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_model(tmp_path / "one", build_model)


@pytest.mark.parametrize(("tower", "way_out"), [("frozen", "smaller"), ("trained", "leave out")])
def test_a_model_too_large_for_the_memory_is_refused(
    clip: Path, monkeypatch: pytest.MonkeyPatch, tower: Any, way_out: str
) -> None:
    settings = VLMConfig(tower=tower)
    needed = dual_bytes_needed(num_parameters(clip), settings)
    monkeypatch.setattr("nearer.models.vlm.memory_check.memory_there", lambda settings: needed - 1)
    with pytest.raises(ConfigError, match=way_out):
        made(clip, settings)
    monkeypatch.setattr("nearer.models.vlm.memory_check.memory_there", lambda settings: needed)
    made(clip, settings)


def test_a_name_makes_a_model(clip: Path) -> None:
    model = new_model(str(clip), VLMConfig(), SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(model, DualEncoder)
