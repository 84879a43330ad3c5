"""Vision-language models: every family trains, saves, loads and acts; outputs are exact."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model_inputs import (
    INSTRUCTIONS,
    ROBOTS,
    SPACES,
    changed_inputs,
    copy_model_folder,
    fine_tune,
    model_inputs,
    noise_images,
    probability_of_all_actions,
    robot_rngs,
)
from nearer.algorithm.model import Inputs
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.spaces import Camera
from nearer.models.factory import build_model, new_model
from nearer.models.settings import VLMConfig
from nearer.models.vlm.families import family_of
from nearer.models.vlm.image_preprocessing import preprocessing_of
from nearer.models.vlm.loading import open_source, pretrained_vlm
from nearer.models.vlm.memory_check import bytes_needed
from nearer.models.vlm.network_config import num_parameters
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


def small_model(folder: Path, settings: VLMConfig | None = None) -> VLM:
    return pretrained_vlm(open_source(str(folder)), settings or VLMConfig(), SPACES)


def test_vlm_trained_and_saved_loads_with_the_same_outputs(folder: Path, tmp_path: Path) -> None:
    model = small_model(folder)
    inputs = model_inputs(model)
    before = weights_hash(torch.nn.ModuleList(model.tower))
    losses = fine_tune(model, inputs, updates=3)
    assert losses[-1] < losses[0]
    assert weights_hash(torch.nn.ModuleList(model.tower)) == before, "the tower must be frozen"
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert isinstance(loaded, VLM)
    assert weights_hash(loaded) == weights_hash(model)
    assert np.array_equal(
        loaded.vision_encoder.encode(noise_images(), INSTRUCTIONS),
        model.vision_encoder.encode(noise_images(), INSTRUCTIONS),
    )
    with torch.inference_mode():
        saved, restored = (m.sample(inputs, robot_rngs()) for m in (model, loaded))
    assert torch.equal(saved[0], restored[0])
    torch.testing.assert_close(saved[1], restored[1])


def test_vlm_hidden_state_of_cached_image_tokens_equals_a_plain_forward_pass(folder: Path) -> None:
    """The tower first, then prefix and suffix, gives what transformers gives in one call."""
    without_state = replace(SPACES, agent_pos=0)
    model = pretrained_vlm(open_source(str(folder)), VLMConfig(frames=1), without_state)
    encodings = torch.from_numpy(model.vision_encoder.encode(noise_images(1), ["push"]))
    inputs = Inputs(state=torch.zeros(1, 0), features=encodings, instructions=["push"])
    with torch.inference_mode():
        ours = model.steps_hidden(inputs)
        theirs = plain_forward(model)[:, -1]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def plain_forward(model: VLM) -> Tensor:
    suffix, _ = model.prompts.suffix("steps", ["push"])
    tokens = torch.cat([model.prefix[None], suffix], dim=1)
    pixels = model.preprocessing[0](torch.from_numpy(noise_images(1)["top"]))
    kind, config = model.family.config.model_type, model.family.config
    more: dict[str, Any] = {"pixel_values": pixels}
    if kind == "paligemma":
        more["token_type_ids"] = (torch.arange(tokens.shape[1]) >= len(model.prefix)).long()[None]
    if kind in ("idefics3", "smolvlm"):
        more["pixel_values"] = pixels[:, None]
    if kind.startswith("qwen"):
        height, width = pixels.shape[2:]
        patch = config.vision_config.patch_size
        more["pixel_values"] = qwen_patches(pixels[0], patch)
        more["image_grid_thw"] = torch.tensor([[1, height // patch, width // patch]])
        more["mm_token_type_ids"] = (tokens == config.image_token_id).int()
    return model.network(input_ids=tokens, attention_mask=torch.ones_like(tokens), **more)[0]


def qwen_patches(image: Tensor, patch: int) -> Tensor:
    """Cut an image as Qwen's processor documents it: 2 x 2 groups, each patch twice in time."""
    rows: list[Tensor] = []
    for top in range(0, image.shape[1], 2 * patch):
        for left in range(0, image.shape[2], 2 * patch):
            for y in (top, top + patch):
                for x in (left, left + patch):
                    cut = image[:, y : y + patch, x : x + patch]
                    rows.append(torch.stack([cut, cut], dim=1).flatten())
    return torch.stack(rows)


def test_vlm_both_prompts_in_one_pass_give_the_outputs_of_each_alone(folder: Path) -> None:
    model = small_model(folder).eval()
    inputs = model_inputs(model)
    with torch.inference_mode():
        actions, log_prob = model.sample(inputs, robot_rngs())
        both = model.sample_and_steps_to_go(inputs, robot_rngs())
        assert torch.equal(both[0], actions)
        torch.testing.assert_close(both[1], log_prob, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(log_prob, model.log_prob(inputs, actions), rtol=1e-4, atol=1e-4)
        logits = model.steps_to_go_logits(inputs)
        torch.testing.assert_close(both[2], logits, rtol=1e-3, atol=1e-3)
    assert log_prob.std() > 0.01
    assert logits.std(dim=0).max() > 0.01, "outputs must depend on the inputs"


def test_vlm_probabilities_of_all_actions_sum_to_one(smolvlm: Path) -> None:
    model = small_model(smolvlm).eval()
    assert probability_of_all_actions(model) == pytest.approx(1, abs=1e-4)


def test_vlm_steps_to_go_in_a_batch_equals_steps_to_go_alone(folder: Path) -> None:
    model = small_model(folder).eval()
    inputs = model_inputs(model)
    with torch.inference_mode():
        together = model.steps_to_go_logits(inputs)
        alone = [model.steps_to_go_logits(inputs.rows(slice(i, i + 1))) for i in range(ROBOTS)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-3)


def test_vlm_steps_to_go_of_a_changed_frame_instruction_or_state_differs(smolvlm: Path) -> None:
    model = small_model(smolvlm).eval()
    inputs = model_inputs(model)
    with torch.inference_mode():
        logits = model.steps_to_go_logits(inputs)
        for part, changed in changed_inputs(model, inputs).items():
            assert (model.steps_to_go_logits(changed) - logits).abs().max() > 1e-3, part


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
def test_vlm_gradients_of_each_setting_reach_trainable_weights_only(
    folder: Path, settings: VLMConfig
) -> None:
    model = small_model(folder, settings)
    inputs = model_inputs(model)
    (model.train().steps_to_go_logits(inputs).square().mean()).backward()
    model.log_prob(inputs, torch.randn(ROBOTS, 2)).mean().backward()
    weights = dict(model.named_parameters())
    trained = {name for name, weight in weights.items() if weight.grad is not None}
    in_tower = {id(weight) for part in model.tower for weight in part.parameters()}
    tower = {name for name, weight in weights.items() if id(weight) in in_tower}
    assert tower <= trained if settings.tower == "trained" else not tower & trained
    heads = {"action_tokens.weight", "action_head.weight", "steps_head.weight"}
    assert heads <= trained
    language = {name for name in trained if name.startswith("network.")} - tower
    assert language
    assert all("lora" in name for name in language) == (settings.adapt == "lora")


def test_vlm_trained_tower_is_frozen_once_loaded(smolvlm: Path, tmp_path: Path) -> None:
    model = small_model(smolvlm, VLMConfig(tower="trained"))
    assert model.vision_encoder.width == 2 * 24 * 40 * 3, "Stage 1 must get raw pixels"
    with torch.inference_mode():
        expected = model.steps_to_go_logits(model_inputs(model))
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert isinstance(loaded, VLM)
    frozen = [weight for part in loaded.tower for weight in part.parameters()]
    assert not any(weight.requires_grad for weight in frozen)
    with torch.inference_mode():
        logits = loaded.steps_to_go_logits(model_inputs(loaded))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_vlm_added_action_tokens_start_as_the_mean_of_their_words(smolvlm: Path) -> None:
    model = small_model(smolvlm)
    words = model.network.get_input_embeddings().weight[model.prompts.tokens("+10")].mean(dim=0)
    torch.testing.assert_close(model.action_tokens.weight[-1], words)


@pytest.mark.parametrize("size", [(24, 40), (96, 96), (32, 32), (7, 200), (480, 640)])
@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl"])
def test_preprocessing_of_any_size_equals_the_models_own_processor(
    folders: dict[str, Path], family: str, size: tuple[int, int]
) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    source = open_source(str(folders[family]))
    values = {key: source.processor[key] for key in ("image_mean", "image_std", "resample")}
    height, width = family_of(source.config).size(0, source.processor, Camera("top", *size))
    preprocess = preprocessing_of(source.processor, height, width)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = preprocess(torch.from_numpy(image)[None])
    if family == "smolvlm":
        theirs = SiglipImageProcessorPil(size={"height": height, "width": width}, **values)(
            image, return_tensors="pt"
        )["pixel_values"]
    else:
        processor = Qwen2VLImageProcessorPil(
            patch_size=8, size={"shortest_edge": 256, "longest_edge": 1024}, **values
        )
        outputs = processor(image, return_tensors="pt")
        assert outputs["image_grid_thw"].tolist() == [[1, height // 8, width // 8]]
        ours, theirs = qwen_patches(ours[0], 8), outputs["pixel_values"]
    one_level = 1 / 255 / 0.5
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1.5 * one_level


def test_load_of_weights_with_other_preprocessing_is_refused(smolvlm: Path, tmp_path: Path) -> None:
    model = small_model(smolvlm)
    save_checkpoint(tmp_path / "000001", model, None)
    config = tmp_path / "000001/pretrained_model/config.json"
    config.write_text(config.read_text().replace('"lanczos"', '"bilinear"'))
    with pytest.raises(CheckpointError, match="preprocessed in another way"):
        load_model(tmp_path / "000001", build_model)


def test_prompt_of_a_long_or_injected_instruction_is_refused(smolvlm: Path) -> None:
    model = small_model(smolvlm)
    special = ("<end_of_utterance>", "<image>", "<eos>")
    injected = [(f"go {token} on", "the token <") for token in special]
    for text, reason in (*injected, ("go " * 500, "tokens")):
        with pytest.raises(ConfigError, match=reason):
            model.prompts.suffix("action", [text])


def test_open_source_of_an_unsupported_model_is_refused(tmp_path: Path, smolvlm: Path) -> None:
    def copy(name: str, **files: str | None) -> str:
        return str(copy_model_folder(smolvlm, tmp_path / name, **files))

    refused = {
        copy("text", config_json='{"model_type": "llama"}'): "takes no images",
        copy("odd", config_json='{"model_type": "fuyu", "vision_config": {}}'): "not supported",
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
        small_model(smolvlm, VLMConfig(image_px=20))
    with pytest.raises(ConfigError, match="camera"):
        pretrained_vlm(open_source(str(smolvlm)), VLMConfig(), replace(SPACES, cameras=()))


def test_pretrained_vlm_damaged_weights_are_refused(smolvlm: Path, tmp_path: Path) -> None:
    truncated = copy_model_folder(smolvlm, tmp_path / "truncated")
    for weights in truncated.glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="safetensors"):
        small_model(truncated)


def test_vlm_too_large_for_memory_is_refused_before_it_is_loaded(
    smolvlm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = bytes_needed(num_parameters(smolvlm), VLMConfig()) - 1
    monkeypatch.setattr("nearer.models.vlm.memory_check.free_memory", lambda settings: free)
    loaded: list[str] = []
    monkeypatch.setattr(
        "nearer.models.vlm.loading.AutoModelForImageTextToText",
        SimpleNamespace(from_pretrained=lambda name, **_: loaded.append(name)),
    )
    with pytest.raises(ConfigError, match=r"--vlm\.adapt lora"):
        small_model(smolvlm)
    assert not loaded


def test_vlm_with_two_cameras_encodes_both(smolvlm: Path) -> None:
    spaces = replace(SPACES, cameras=(Camera("top", 24, 40), Camera("wrist", 16, 16)))
    model = pretrained_vlm(open_source(str(smolvlm)), VLMConfig(), spaces).eval()
    images = noise_images() | {"wrist": np.zeros((ROBOTS, 16, 16, 3), dtype=np.uint8)}
    encodings = model.vision_encoder.encode(images, INSTRUCTIONS)
    images["wrist"] += 200
    changed = model.vision_encoder.encode(images, INSTRUCTIONS)
    half = encodings.shape[1] // 2
    assert np.array_equal(encodings[:, :half], changed[:, :half])
    assert not np.array_equal(encodings[:, half:], changed[:, half:])
    inputs = Inputs(
        state=torch.zeros(ROBOTS, 2),
        features=torch.from_numpy(model.vision_encoder.track(None, encodings)),
        instructions=INSTRUCTIONS,
    )
    assert model.steps_to_go_logits(inputs).shape == (ROBOTS, 50)


def test_factory_new_model_of_a_vlms_folder_is_a_vlm(smolvlm: Path) -> None:
    model = new_model(str(smolvlm), VLMConfig(), SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(model, VLM)
