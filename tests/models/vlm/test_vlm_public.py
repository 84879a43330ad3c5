"""Properties of public checkpoints that the tiny models of the tests do not have."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from huggingface_hub.errors import GatedRepoError
from PIL import Image
from tokenizers import Tokenizer
from transformers import Idefics3Config

from nearer.algorithm.model import Inputs
from nearer.core.arrays import Array
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import build_model
from nearer.models.settings import VLMConfig
from nearer.models.vlm.families import family_of
from nearer.models.vlm.image_preprocessing import preprocessing_of
from nearer.models.vlm.loading import open_source, pretrained_vlm
from nearer.models.vlm.memory_check import bytes_needed
from nearer.models.vlm.vlm import VLM
from nearer.runs.checkpoint import load_model, save_checkpoint
from tiny_vlms import make_vlm

SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 24, 40),))
LORA = VLMConfig(adapt="lora", precision="bfloat16")


@pytest.fixture(scope="module")
def idefics3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vlm(tmp_path_factory.mktemp("public") / "idefics3", "idefics3")


def small_model(folder: Path, settings: VLMConfig | None = None) -> VLM:
    return pretrained_vlm(open_source(str(folder)), settings or VLMConfig(), SPACES)


def encode_noise(model: VLM) -> Array:
    rng = np.random.default_rng(0)
    images = {"top": rng.integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)}
    return model.vision_encoder.encode(images, ["push"] * 2)


def noise_inputs(model: VLM) -> Inputs:
    features = torch.from_numpy(model.vision_encoder.track(None, encode_noise(model)))
    return Inputs(state=torch.zeros(2, 2), features=features, instructions=["push"] * 2)


def sample_actions(model: VLM) -> torch.Tensor:
    rngs = [np.random.default_rng(robot) for robot in range(2)]
    return model.sample_and_steps_to_go(noise_inputs(model), rngs)[0]


def copy_without_tokens(folder: Path, copy: Path, *tokens: str) -> Path:
    """Return a copy of a folder whose tokenizer lacks some special tokens."""
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    document = json.loads((copy / "tokenizer.json").read_text())
    document["added_tokens"] = [
        token for token in document["added_tokens"] if token["content"] not in tokens
    ]
    for token in tokens:
        document["model"]["vocab"][f"unused {token[1:-1]}"] = document["model"]["vocab"].pop(token)
    (copy / "tokenizer.json").write_text(json.dumps(document))
    return copy


@pytest.mark.parametrize("size", [(24, 40), (96, 96), (7, 200), (480, 640)])
def test_lanczos_resize_equals_pillows(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    preprocess = preprocessing_of(
        {"resample": 1, "image_mean": [0] * 3, "image_std": [1] * 3}, 32, 48
    )
    ours = preprocess(torch.from_numpy(image)[None])[0].permute(1, 2, 0) * 255
    theirs = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.LANCZOS))
    assert np.abs(ours.numpy() - theirs).max() < 1.5  # of 255 levels


@pytest.mark.parametrize("settings", [VLMConfig(), LORA], ids=["full", "lora"])
def test_vlm_checkpoint_in_bfloat16_keeps_trained_weights_in_float32(
    idefics3: Path, settings: VLMConfig, tmp_path: Path
) -> None:
    assert json.loads((idefics3 / "config.json").read_text())["dtype"] == "bfloat16"
    model = small_model(idefics3, settings)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {
        torch.float32
    }
    save_checkpoint(tmp_path / "000001", model.eval(), None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert isinstance(loaded, VLM)
    restored = dict(loaded.named_parameters())
    for name, weight in model.named_parameters():
        assert weight.dtype == restored[name].dtype, name
        assert torch.equal(weight, restored[name]), name
    for name, buffer in loaded.named_buffers():
        if "inv_freq" in name:
            assert buffer.dtype == torch.float32, "rounded frequencies would move positions"
    assert loaded.vision_encoder.identity == model.vision_encoder.identity
    with torch.inference_mode():
        logits = [it.steps_to_go_logits(noise_inputs(it)) for it in (model, loaded)]
    torch.testing.assert_close(logits[1], logits[0])


def test_vision_encoder_identity_of_another_precision_differs(idefics3: Path) -> None:
    exact, coarse = small_model(idefics3), small_model(idefics3, VLMConfig(precision="bfloat16"))
    assert not np.array_equal(encode_noise(exact), encode_noise(coarse))
    assert exact.vision_encoder.identity != coarse.vision_encoder.identity


def test_prompt_opening_is_the_first_token_that_the_tokenizer_has(
    idefics3: Path, tmp_path: Path
) -> None:
    """SmolVLM-256M-Instruct has the model type idefics3 and SmolLM2's tokenizer."""
    smol = small_model(copy_without_tokens(idefics3, tmp_path / "smol", "<|begin_of_text|>"))
    models = (small_model(idefics3), smol)
    opening = [it.prompts.tokenizer.id_to_token(it.prefix[0].item()) for it in models]
    assert opening == ["<|begin_of_text|>", "<|im_start|>"]
    with pytest.raises(ConfigError, match=r"<\|begin_of_text\|> or <\|im_start\|>"):
        small_model(
            copy_without_tokens(idefics3, tmp_path / "none", "<|begin_of_text|>", "<|im_start|>")
        )


def test_prompt_without_the_global_image_token_spells_it_out(
    idefics3: Path, tmp_path: Path
) -> None:
    """Idefics3-8B-Llama3 was trained without a token <global-img>."""
    spelled = small_model(copy_without_tokens(idefics3, tmp_path / "spelled", "<global-img>"))
    prefix = spelled.prompts.tokenizer.decode(spelled.prefix.tolist(), skip_special_tokens=False)
    assert "<fake_token_around_image><global-img><image>" in prefix.replace(" ", "")


def test_default_image_size_that_patches_do_not_divide_is_rounded_down() -> None:
    """SmolVLM-Instruct, of 2.2 B: 384 pixels, patches of 14, groups of three."""
    document = {
        "vision_config": {"image_size": 384, "patch_size": 14},
        "scale_factor": 3,
    }
    family = family_of(Idefics3Config.from_dict(document))
    assert family.size(0, {}, Camera("top", 96, 128)) == (378, 378)
    assert family.tokens(378, 378) == 81


def test_image_px_for_qwen_is_the_size_of_its_input(tmp_path: Path) -> None:
    folder = make_vlm(tmp_path / "qwen", "qwen3_vl")
    model = small_model(folder, VLMConfig(image_px=80))
    assert [(camera.height, camera.width) for camera in model.preprocessing] == [(80, 80)]
    with pytest.raises(ConfigError, match="multiple of 16 for this model, got 50"):
        small_model(folder, VLMConfig(image_px=50))


def test_vlm_checkpointing_recomputes_layers_where_gradients_are_needed(idefics3: Path) -> None:
    model = small_model(idefics3, VLMConfig(checkpointing=True)).eval()  # as in Stage 2
    plain = small_model(idefics3).eval()
    calls: list[None] = []

    def count(*_: Any) -> None:
        calls.append(None)

    model.network.text_model.layers[0].self_attn.register_forward_hook(count)
    actions = torch.zeros(2, 2)
    for it in (plain, model):
        it.log_prob(noise_inputs(it), actions).sum().backward()
    assert len(calls) == 2
    expected = {name: weight.grad for name, weight in plain.named_parameters()}
    for name, weight in model.named_parameters():
        if weight.grad is not None and expected[name] is not None:
            torch.testing.assert_close(weight.grad, expected[name], msg=name)
    calls.clear()
    with torch.inference_mode():
        sampled = [sample_actions(each) for each in (model, plain)]
    assert len(calls) == 2, "one pass for both prompts, one for the second axis"
    assert torch.equal(*sampled)


def test_vlm_checkpoint_of_a_gpu_run_loads_without_a_gpu(idefics3: Path, tmp_path: Path) -> None:
    model = small_model(idefics3)
    model.settings = replace(model.settings, device="cuda")
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert isinstance(loaded, VLM)
    assert loaded.settings.device == "auto"


def test_bytes_needed_of_a_sharded_model_is_less_a_process() -> None:
    """PaliGemma of 3 B on four GPUs of 24 GiB."""
    whole, sharded = (bytes_needed(2_923_000_000, VLMConfig(), n) / 1024**3 for n in (1, 4))
    assert 40 < whole < 50
    assert 11 < sharded < 24


def test_load_model_checkpoint_larger_than_memory_is_refused(
    idefics3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "000001", small_model(idefics3), None)
    monkeypatch.setattr("nearer.models.vlm.memory_check.free_main_memory", lambda: 1000)
    with pytest.raises(CheckpointError, match=r"the memory must hold about .* to load"):
        load_model(tmp_path / "000001", build_model)
    with pytest.raises(ConfigError, match="--processes fsdp"):
        small_model(idefics3)


def test_prompt_suffix_of_a_truncating_tokenizer_is_whole(idefics3: Path, tmp_path: Path) -> None:
    folder = copy_without_tokens(idefics3, tmp_path / "cut")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=90)
    tokenizer.save(str(folder / "tokenizer.json"))
    cut, whole = (
        small_model(path).prompts.suffix("steps", ["push the moon"]) for path in (folder, idefics3)
    )
    assert torch.equal(cut[0], whole[0])


def test_open_source_of_a_gated_or_quantised_model_is_refused(
    idefics3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: list[tuple[str, Any]] = []
    refusal = cast(Any, SimpleNamespace(headers={}, request=None, status_code=401))

    def download(name: str, *, revision: str | None, **_: Any) -> str:
        downloads.append((name, revision))
        if name == "google/paligemma-3b-pt-224":
            raise GatedRepoError("401 Client Error", response=refusal)
        return str(idefics3)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert open_source("user/name@v1.0").folder == idefics3
    assert downloads == [("user/name", "v1.0")]
    with pytest.raises(ConfigError, match="licence that is to be accepted"):
        open_source("google/paligemma-3b-pt-224")
    folder = copy_without_tokens(idefics3, tmp_path / "awq")
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"quantization_config": {}}))
    with pytest.raises(ConfigError, match="quantised"):
        open_source(str(folder))
