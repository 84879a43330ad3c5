"""Vision-language models: every family learns, saves, loads and acts; answers are exact."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from asking import INSTRUCTIONS, ROBOTS, SPACES, asked, chance, learn, pictures
from nearer.algorithm.action_tokens import NUM_TOKENS
from nearer.algorithm.model import Inputs
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.spaces import Camera
from nearer.models.factory import build_model, new_model
from nearer.models.settings import VLMConfig
from nearer.models.vlm.families import family_of
from nearer.models.vlm.image_preprocessing import preparing_of
from nearer.models.vlm.loading import num_parameters, open_source, pretrained_vlm
from nearer.models.vlm.memory_check import bytes_needed
from nearer.models.vlm.vlm import VLM
from nearer.runs.checkpoint import load_model, save_checkpoint, weights_hash
from tiny_vlms import FAMILIES, make_vlm


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vlms")
    return {family: make_vlm(root / family, family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture
def smolvlm(folders: dict[str, Path]) -> Path:
    return folders["smolvlm"]


def made(folder: Path, settings: VLMConfig | None = None) -> VLM:
    return pretrained_vlm(open_source(str(folder)), settings or VLMConfig(), SPACES)


def test_a_step_is_learned_saved_loaded_and_acted(folder: Path, tmp_path: Path) -> None:
    model = made(folder)
    inputs = asked(model)
    before = weights_hash(torch.nn.ModuleList(model.tower))
    losses = learn(model, inputs, updates=3)
    assert losses[-1] < losses[0]
    assert weights_hash(torch.nn.ModuleList(model.tower)) == before, "the tower is frozen"
    save_checkpoint(tmp_path / "one", model, None)
    again = load_model(tmp_path / "one", build_model)
    assert isinstance(again, VLM)
    assert weights_hash(again) == weights_hash(model)
    assert np.array_equal(
        again.vision_encoder.encode(pictures(), INSTRUCTIONS),
        model.vision_encoder.encode(pictures(), INSTRUCTIONS),
    )
    with torch.inference_mode():
        expected, found = model.sample(inputs, chance()), again.sample(inputs, chance())
    assert torch.equal(expected[0], found[0])
    torch.testing.assert_close(expected[1], found[1])


def test_the_network_reads_what_its_own_forward_reads(folder: Path) -> None:
    """Pictures by the tower first, tokens of our own: the same numbers as in one plain call."""
    model = made(folder, VLMConfig(frames=1))
    blind = replace(SPACES, agent_pos=0)
    model = pretrained_vlm(open_source(str(folder)), VLMConfig(frames=1), blind)
    encodings = torch.from_numpy(model.vision_encoder.encode(pictures(1), ["push"]))
    inputs = Inputs(state=torch.zeros(1, 0), features=encodings, instructions=["push"])
    none = torch.zeros((1, 0), dtype=torch.int64)
    with torch.inference_mode():
        ours = model._hidden(inputs, "steps", none)[:, -1]
        theirs = _plain_forward(model)[:, -1]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def _plain_forward(model: VLM) -> Tensor:
    question, _ = model.prompts.ask("steps", ["push"])
    tokens = torch.cat([model.prefix[None], question], dim=1)
    pixels = model.preparing[0](torch.from_numpy(pictures(1)["top"]))
    kind, config = model.family.config.model_type, model.family.config
    more: dict[str, Any] = {"pixel_values": pixels}
    if kind == "paligemma":
        more["token_type_ids"] = (torch.arange(tokens.shape[1]) >= len(model.prefix)).long()[None]
    if kind in ("idefics3", "smolvlm"):
        more["pixel_values"] = pixels[:, None]
    if kind.startswith("qwen"):
        height, width = pixels.shape[2:]
        patch = config.vision_config.patch_size
        more["pixel_values"] = _patches(pixels[0], patch)
        more["image_grid_thw"] = torch.tensor([[1, height // patch, width // patch]])
        more["mm_token_type_ids"] = (tokens == config.image_token_id).int()
    return model.network(input_ids=tokens, attention_mask=torch.ones_like(tokens), **more)[0]


def _patches(picture: Tensor, patch: int) -> Tensor:
    """Cut one picture as Qwen's processor documents it: 2 x 2 groups, each patch twice in time."""
    rows: list[Tensor] = []
    for top in range(0, picture.shape[1], 2 * patch):
        for left in range(0, picture.shape[2], 2 * patch):
            for y in (top, top + patch):
                for x in (left, left + patch):
                    cut = picture[:, y : y + patch, x : x + patch]
                    rows.append(torch.stack([cut, cut], dim=1).flatten())
    return torch.stack(rows)


def test_both_questions_at_once_are_the_same_answers(folder: Path) -> None:
    model = made(folder).eval()
    inputs = asked(model)
    with torch.inference_mode():
        actions, log_prob = model.sample(inputs, chance())
        both = model.answers(inputs, chance())
        assert torch.equal(both[0], actions)
        torch.testing.assert_close(both[1], log_prob, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(log_prob, model.log_prob(inputs, actions), rtol=1e-4, atol=1e-4)
        logits = model.steps_to_go_logits(inputs)
        torch.testing.assert_close(both[2], logits, rtol=1e-3, atol=1e-3)
    assert log_prob.std() > 0.01
    assert logits.std(dim=0).max() > 0.01, "answers must depend on what was asked"


def test_probabilities_of_all_actions_sum_to_one(smolvlm: Path) -> None:
    model = made(smolvlm).eval()
    inputs = asked(model).rows(torch.tensor([1] * NUM_TOKENS**2))
    tokens = torch.cartesian_prod(torch.arange(NUM_TOKENS), torch.arange(NUM_TOKENS))
    with torch.inference_mode():
        total = model.log_prob(inputs, model.tokens.decode(tokens)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-4)


def test_other_questions_beside_it_change_nothing(folder: Path) -> None:
    model = made(folder).eval()
    inputs = asked(model)
    with torch.inference_mode():
        together = model.steps_to_go_logits(inputs)
        alone = [model.steps_to_go_logits(inputs.rows(slice(i, i + 1))) for i in range(ROBOTS)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-3)


def test_answers_depend_on_picture_before_words_and_state(smolvlm: Path) -> None:
    model = made(smolvlm).eval()
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


@pytest.mark.parametrize(
    "settings",
    [
        VLMConfig(tower="trained", checkpointing=True),
        VLMConfig(adapt="lora"),
        VLMConfig(adapt="lora", precision="bfloat16"),
        VLMConfig(precision="bfloat16"),
    ],
    ids=["tower", "lora", "lora-bf16", "bf16"],
)
def test_what_shall_learn_learns_and_nothing_else(folder: Path, settings: VLMConfig) -> None:
    model = made(folder, settings)
    inputs = asked(model)
    (model.train().steps_to_go_logits(inputs).square().mean()).backward()
    model.log_prob(inputs, torch.randn(ROBOTS, 2)).mean().backward()
    learned = {name for name, one in model.named_parameters() if one.grad is not None}
    tower = {id(one) for part in model.tower for one in part.parameters()}
    towers = {name for name, one in model.named_parameters() if id(one) in tower}
    assert towers <= learned if settings.tower == "trained" else not towers & learned
    answers = {"action_tokens.weight", "action_head.weight", "steps_head.weight"}
    assert answers <= learned
    within = {name for name in learned if name.startswith("network.")} - towers
    assert within
    assert all("lora" in name for name in within) == (settings.adapt == "lora")


def test_a_trained_tower_is_frozen_once_it_is_loaded(smolvlm: Path, tmp_path: Path) -> None:
    model = made(smolvlm, VLMConfig(tower="trained"))
    assert model.vision_encoder.width == 2 * 24 * 40 * 3, "Stage 1 sees the pictures themselves"
    with torch.inference_mode():
        expected = model.steps_to_go_logits(asked(model))
    save_checkpoint(tmp_path / "one", model, None)
    again = load_model(tmp_path / "one", build_model)
    assert isinstance(again, VLM)
    assert not any(one.requires_grad for part in again.tower for one in part.parameters())
    with torch.inference_mode():
        found = again.steps_to_go_logits(asked(again))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_added_tokens_start_as_the_words_that_say_them(smolvlm: Path) -> None:
    model = made(smolvlm)
    words = model.network.get_input_embeddings().weight[model.prompts.tokens("+10")].mean(dim=0)
    torch.testing.assert_close(model.action_tokens.weight[-1], words)


@pytest.mark.parametrize("size", [(24, 40), (96, 96), (32, 32), (7, 200), (480, 640)])
@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl"])
def test_pictures_are_prepared_as_the_models_own_processor_does(
    folders: dict[str, Path], family: str, size: tuple[int, int]
) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    source = open_source(str(folders[family]))
    values = {key: source.processor[key] for key in ("image_mean", "image_std", "resample")}
    height, width = family_of(source.config).size(0, source.processor, Camera("top", *size))
    prepare = preparing_of(source.processor, height, width)
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = prepare(torch.from_numpy(picture)[None])
    if family == "smolvlm":
        theirs = SiglipImageProcessorPil(size={"height": height, "width": width}, **values)(
            picture, return_tensors="pt"
        )["pixel_values"]
    else:
        processor = Qwen2VLImageProcessorPil(
            patch_size=8, size={"shortest_edge": 256, "longest_edge": 1024}, **values
        )
        found = processor(picture, return_tensors="pt")
        assert found["image_grid_thw"].tolist() == [[1, height // 8, width // 8]]
        ours, theirs = _patches(ours[0], 8), found["pixel_values"]
    one_level = 1 / 255 / 0.5
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1.5 * one_level


def test_settings_of_pictures_are_compared_when_weights_are_loaded(
    smolvlm: Path, tmp_path: Path
) -> None:
    model = made(smolvlm)
    save_checkpoint(tmp_path / "one", model, None)
    config = tmp_path / "one/pretrained_model/config.json"
    config.write_text(config.read_text().replace('"lanczos"', '"bilinear"'))
    with pytest.raises(CheckpointError, match="prepared in another way"):
        load_model(tmp_path / "one", build_model)


def test_an_instruction_cannot_steer_the_model(smolvlm: Path) -> None:
    model = made(smolvlm)
    steering = [
        (f"go {one} on", "the token <") for one in ("<end_of_utterance>", "<image>", "<eos>")
    ]
    for text, reason in (*steering, ("go " * 500, "tokens")):
        with pytest.raises(ConfigError, match=reason):
            model.prompts.ask("action", [text])


def test_what_cannot_serve_is_refused_with_what_would(tmp_path: Path, smolvlm: Path) -> None:
    def copy(name: str, **files: str | None) -> str:
        folder = tmp_path / name
        folder.mkdir()
        for path in smolvlm.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        for file, text in files.items():
            path = folder / file.replace("_json", ".json")
            path.unlink() if text is None else path.write_text(text)
        return str(folder)

    refused = {
        copy("text", config_json='{"model_type": "llama"}'): "takes no pictures",
        copy("odd", config_json='{"model_type": "fuyu", "vision_config": {}}'): "not known",
        copy("torn", config_json="{"): "JSON",
        copy("mute", tokenizer_json=None): "tokenizer.json",
        copy("bare", config_json=None): "config.json",
    }
    for name, reason in refused.items():
        with pytest.raises(ConfigError, match=reason):
            open_source(name)
    pickled = Path(copy("pickled"))
    for path in pickled.glob("*.safetensors"):
        path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(ConfigError, match="safetensors"):
        open_source(str(pickled))
    with pytest.raises(ConfigError, match="must be a multiple of 16"):
        made(smolvlm, VLMConfig(image_px=20))
    with pytest.raises(ConfigError, match="camera"):
        pretrained_vlm(open_source(str(smolvlm)), VLMConfig(), replace(SPACES, cameras=()))


def test_damaged_weights_are_a_sentence(smolvlm: Path, tmp_path: Path) -> None:
    for path in smolvlm.iterdir():
        whole = path.read_bytes()
        (tmp_path / path.name).write_bytes(whole[:500] if path.suffix == ".safetensors" else whole)
    with pytest.raises(CheckpointError, match="safetensors"):
        made(tmp_path)


def test_a_model_too_large_for_the_memory_is_refused_before_it_is_loaded(
    smolvlm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = bytes_needed(num_parameters(smolvlm), VLMConfig()) - 1
    monkeypatch.setattr("nearer.models.vlm.memory_check.memory_there", lambda settings: there)
    loaded: list[str] = []
    monkeypatch.setattr(
        "nearer.models.vlm.loading.AutoModelForImageTextToText",
        SimpleNamespace(from_pretrained=lambda name, **_: loaded.append(name)),
    )
    with pytest.raises(ConfigError, match=r"--vlm\.adapt lora"):
        made(smolvlm)
    assert not loaded


def test_several_cameras_are_all_seen(smolvlm: Path) -> None:
    two = replace(SPACES, cameras=(Camera("top", 24, 40), Camera("wrist", 16, 16)))
    model = pretrained_vlm(open_source(str(smolvlm)), VLMConfig(), two).eval()
    images = pictures() | {"wrist": np.zeros((ROBOTS, 16, 16, 3), dtype=np.uint8)}
    encodings = model.vision_encoder.encode(images, INSTRUCTIONS)
    images["wrist"] += 200
    other = model.vision_encoder.encode(images, INSTRUCTIONS)
    half = encodings.shape[1] // 2
    assert np.array_equal(encodings[:, :half], other[:, :half])
    assert not np.array_equal(encodings[:, half:], other[:, half:])
    inputs = Inputs(
        state=torch.zeros(ROBOTS, 2),
        features=torch.from_numpy(model.vision_encoder.track(None, encodings)),
        instructions=INSTRUCTIONS,
    )
    assert model.steps_to_go_logits(inputs).shape == (ROBOTS, 50)


def test_a_name_makes_a_model(smolvlm: Path) -> None:
    model = new_model(str(smolvlm), VLMConfig(), SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(model, VLM)
