"""What public checkpoints have in their files that tiny ones would not show by themselves."""

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

from nearer.algorithm.model import Inputs
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import build_model
from nearer.models.settings import VLMConfig
from nearer.models.vlm.families import family_of
from nearer.models.vlm.image_preprocessing import preparing_of
from nearer.models.vlm.loading import network_config, open_source, pretrained_vlm
from nearer.models.vlm.memory_check import bytes_needed
from nearer.models.vlm.vlm import VLM
from nearer.runs.checkpoint import load_model, save_checkpoint
from tiny_vlms import make_vlm

SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 24, 40),))
LORA = VLMConfig(adapt="lora", precision="bfloat16")


@pytest.fixture(scope="module")
def idefics3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vlm(tmp_path_factory.mktemp("public") / "idefics3", "idefics3")


def made(folder: Path, settings: VLMConfig | None = None) -> VLM:
    return pretrained_vlm(open_source(str(folder)), settings or VLMConfig(), SPACES)


def encode(model: VLM) -> Any:
    draw = np.random.default_rng(0)
    images = {"top": draw.integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)}
    return model.vision_encoder.encode(images, ["push"] * 2)


def asked(model: VLM) -> Inputs:
    features = torch.from_numpy(model.vision_encoder.track(None, encode(model)))
    return Inputs(state=torch.zeros(2, 2), features=features, instructions=["push"] * 2)


def without(folder: Path, copy: Path, *tokens: str) -> Path:
    """Return a copy of a folder whose tokenizer lacks some special tokens."""
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    document = json.loads((copy / "tokenizer.json").read_text())
    document["added_tokens"] = [
        one for one in document["added_tokens"] if one["content"] not in tokens
    ]
    for token in tokens:
        document["model"]["vocab"][f"unused {token[1:-1]}"] = document["model"]["vocab"].pop(token)
    (copy / "tokenizer.json").write_text(json.dumps(document))
    return copy


@pytest.mark.parametrize("size", [(24, 40), (96, 96), (7, 200), (480, 640)])
def test_lanczos_is_pillows(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    prepare = preparing_of({"resample": 1, "image_mean": [0] * 3, "image_std": [1] * 3}, 32, 48)
    ours = prepare(torch.from_numpy(picture)[None])[0].permute(1, 2, 0) * 255
    theirs = np.asarray(Image.fromarray(picture).resize((48, 32), Image.Resampling.LANCZOS))
    assert np.abs(ours.numpy() - theirs).max() < 1.5  # levels


@pytest.mark.parametrize("settings", [VLMConfig(), LORA], ids=["full", "lora"])
def test_what_learns_is_kept_in_float32_and_loaded_as_it_was(
    idefics3: Path, settings: VLMConfig, tmp_path: Path
) -> None:
    assert json.loads((idefics3 / "config.json").read_text())["dtype"] == "bfloat16"
    model = made(idefics3, settings)
    assert {one.dtype for one in model.parameters() if one.requires_grad} == {torch.float32}
    save_checkpoint(tmp_path / "one", model.eval(), None)
    again = load_model(tmp_path / "one", build_model)
    assert isinstance(again, VLM)
    for (name, one), (_, other) in zip(
        model.named_parameters(), again.named_parameters(), strict=True
    ):
        assert one.dtype == other.dtype, name
        assert torch.equal(one, other), name
    for name, buffer in again.named_buffers():
        if "inv_freq" in name:
            assert buffer.dtype == torch.float32, "rounded places are wrong places"
    assert again.vision_encoder.identity == model.vision_encoder.identity
    with torch.inference_mode():
        expected, found = (one.steps_to_go_logits(asked(one)) for one in (model, again))
    torch.testing.assert_close(found, expected)


def test_looks_of_another_precision_are_others(idefics3: Path) -> None:
    exact, coarse = made(idefics3), made(idefics3, VLMConfig(precision="bfloat16"))
    assert not np.array_equal(encode(exact), encode(coarse))
    assert exact.vision_encoder.identity != coarse.vision_encoder.identity


def test_a_prompt_opens_as_the_tokenizer_can(idefics3: Path, tmp_path: Path) -> None:
    """SmolVLM-256M-Instruct calls itself idefics3, and has SmolLM2's tokenizer."""
    smol = made(without(idefics3, tmp_path / "smol", "<|begin_of_text|>"))
    first = [
        one.prompts.tokenizer.id_to_token(one.prefix[0].item()) for one in (made(idefics3), smol)
    ]
    assert first == ["<|begin_of_text|>", "<|im_start|>"]
    with pytest.raises(ConfigError, match=r"<\|begin_of_text\|> or <\|im_start\|>"):
        made(without(idefics3, tmp_path / "none", "<|begin_of_text|>", "<|im_start|>"))


def test_a_token_that_some_tokenizers_lack_is_spelled_out(idefics3: Path, tmp_path: Path) -> None:
    """Idefics3-8B-Llama3 was trained without a token <global-img>."""
    spelled = made(without(idefics3, tmp_path / "spelled", "<global-img>"))
    prefix = spelled.prompts.tokenizer.decode(spelled.prefix.tolist(), skip_special_tokens=False)
    assert "<fake_token_around_image><global-img><image>" in prefix.replace(" ", "")


def test_the_own_size_of_a_model_is_never_refused() -> None:
    """SmolVLM-Instruct, of 2.2 B: 384 pixels, patches of 14, groups of three."""
    document = {
        "model_type": "idefics3",
        "vision_config": {"image_size": 384, "patch_size": 14},
        "scale_factor": 3,
    }
    family = family_of(network_config(document))
    assert family.size(0, {}, Camera("top", 96, 128)) == (378, 378)
    assert family.tokens(378, 378) == 81


def test_a_picture_for_qwen_is_as_large_as_it_is_asked_for(tmp_path: Path) -> None:
    folder = make_vlm(tmp_path / "qwen", "qwen3_vl")
    model = made(folder, VLMConfig(image_px=80))
    assert [(one.height, one.width) for one in model.preparing] == [(80, 80)]
    with pytest.raises(ConfigError, match="multiple of 16 for this model, got 50"):
        made(folder, VLMConfig(image_px=50))


def test_layers_are_computed_twice_whenever_something_is_learned(idefics3: Path) -> None:
    model = made(idefics3, VLMConfig(checkpointing=True)).eval()  # as Stage 2 has it
    plain = made(idefics3).eval()
    calls: list[None] = []

    def count(*_: Any) -> None:
        calls.append(None)

    model.network.text_model.layers[0].self_attn.register_forward_hook(count)
    actions = torch.zeros(2, 2)
    for one in (plain, model):
        one.log_prob(asked(one), actions).sum().backward()
    assert len(calls) == 2
    for (name, one), (_, other) in zip(
        model.named_parameters(), plain.named_parameters(), strict=True
    ):
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, msg=name)
    calls.clear()
    rows = [np.random.default_rng(robot) for robot in range(2)]
    again = [np.random.default_rng(robot) for robot in range(2)]
    with torch.inference_mode():
        found, expected = model.answers(asked(model), rows), plain.answers(asked(plain), again)
    assert len(calls) == 2, "a pass for both questions, one for the second axis"
    assert torch.equal(found[0], expected[0])


def test_a_run_of_a_gpu_is_loaded_without_one(idefics3: Path, tmp_path: Path) -> None:
    model = made(idefics3)
    model.settings = replace(model.settings, device="cuda")
    save_checkpoint(tmp_path / "one", model, None)
    again = load_model(tmp_path / "one", build_model)
    assert isinstance(again, VLM)
    assert again.settings.device == "auto"


def test_shared_among_gpus_a_model_needs_less_of_each() -> None:
    """PaliGemma of 3 B on four GPUs of 24 GiB."""
    alone, shared = (bytes_needed(2_923_000_000, VLMConfig(), one) / 1024**3 for one in (1, 4))
    assert 40 < alone < 50
    assert 11 < shared < 24


def test_a_checkpoint_that_the_memory_cannot_hold_is_a_sentence(
    idefics3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "one", made(idefics3), None)
    monkeypatch.setattr("nearer.models.vlm.memory_check.main_memory", lambda: 1000)
    with pytest.raises(CheckpointError, match=r"the memory must hold about .* to load"):
        load_model(tmp_path / "one", build_model)
    with pytest.raises(ConfigError, match="--processes fsdp"):
        made(idefics3)


def test_a_tokenizer_never_cuts_a_question(idefics3: Path, tmp_path: Path) -> None:
    folder = without(idefics3, tmp_path / "cut")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=90)
    tokenizer.save(str(folder / "tokenizer.json"))
    cut, whole = (made(one).prompts.ask("steps", ["push the moon"]) for one in (folder, idefics3))
    assert torch.equal(cut[0], whole[0])


def test_what_the_hub_refuses_or_has_quantised_is_a_sentence(
    idefics3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Any]] = []
    refusal = cast(Any, SimpleNamespace(headers={}, request=None, status_code=401))

    def download(name: str, *, revision: str | None, **_: Any) -> str:
        seen.append((name, revision))
        if name == "google/paligemma-3b-pt-224":
            raise GatedRepoError("401 Client Error", response=refusal)
        return str(idefics3)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert open_source("user/name@v1.0").folder == idefics3
    assert seen == [("user/name", "v1.0")]
    with pytest.raises(ConfigError, match="licence that is to be accepted"):
        open_source("google/paligemma-3b-pt-224")
    folder = without(idefics3, tmp_path / "awq")
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"quantization_config": {}}))
    with pytest.raises(ConfigError, match="quantised"):
        open_source(str(folder))
