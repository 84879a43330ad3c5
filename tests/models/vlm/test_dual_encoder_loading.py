"""Dual encoders are loaded from a folder of the hub or a checkpoint, or refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import AutoModel

from model_inputs import (
    INSTRUCTIONS,
    SPACES,
    copy_model_folder,
    fine_tune,
    model_inputs,
)
from nearer.core.errors import CheckpointError, ConfigError
from nearer.models.factory import build_model, new_model
from nearer.models.settings import VLMConfig
from nearer.models.vlm.dual_encoder import DualEncoder
from nearer.models.vlm.loading import open_source
from nearer.models.vlm.memory_check import dual_bytes_needed
from nearer.models.vlm.network_config import num_parameters
from nearer.runs.checkpoint import load_model, save_checkpoint, weights_hash
from tiny_duals import small_dual_encoder


def test_open_source_of_an_unsupported_dual_encoder_is_refused(
    dual_encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    clip, siglip = dual_encoder_folders["clip"], dual_encoder_folders["siglip"]

    def copy(folder: Path, name: str, **files: str | None) -> Path:
        return copy_model_folder(folder, tmp_path / name, **files)

    other = copy(clip, "other", config_json='{"model_type": "chinese_clip", "vision_config": {}}')
    with pytest.raises(ConfigError, match=r"dual encoder .*'chinese_clip', which takes images"):
        open_source(str(other))
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        open_source(str(copy(clip, "mute", tokenizer_json=None)))
    headless = (siglip / "config.json").read_text()
    headless = headless.replace('"vision_use_head": true', '"vision_use_head": false')
    with pytest.raises(ConfigError, match="vision_use_head"):
        small_dual_encoder(copy(siglip, "headless", config_json=headless))
    words = (siglip / "tokenizer.json").read_text()
    with pytest.raises(ConfigError, match=r"<\|endoftext\|>"):
        small_dual_encoder(copy(clip, "words", tokenizer_json=words))
    ends = (clip / "config.json").read_text().replace('"eos_token_id": 1', '"eos_token_id": 7')
    with pytest.raises(ConfigError, match="as token 7"):
        small_dual_encoder(copy(clip, "ends", config_json=ends))
    with pytest.raises(ConfigError, match="camera"):
        small_dual_encoder(clip, spaces=replace(SPACES, cameras=()))
    for settings, reason in (
        (VLMConfig(adapt="lora"), "--vlm.adapt must be full"),
        (VLMConfig(checkpointing=True), "--vlm.checkpointing must go with --vlm.tower trained"),
    ):
        with pytest.raises(ConfigError, match=reason):
            small_dual_encoder(clip, settings)


def test_pretrained_dual_weights_damaged_or_of_one_tower_are_refused(
    clip: Path, tmp_path: Path
) -> None:
    truncated = copy_model_folder(clip, tmp_path / "truncated")
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="safetensors"):
        small_dual_encoder(truncated)
    half = copy_model_folder(clip, tmp_path / "half")
    whole = cast(Any, AutoModel).from_pretrained(str(clip))
    whole.vision_model.save_pretrained(str(tmp_path / "vision"))
    (half / "model.safetensors").write_bytes((tmp_path / "vision/model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"got none for .* more"):
        small_dual_encoder(half)


def test_load_model_dual_encoder_of_other_preprocessing_is_refused(
    clip: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "000001", small_dual_encoder(clip), None)
    config = tmp_path / "000001/pretrained_model/config.json"
    whole = config.read_text()
    config.write_text(whole.replace('"bicubic"', '"bilinear"'))
    with pytest.raises(CheckpointError, match="preprocessed in another way"):
        load_model(tmp_path / "000001", build_model)
    config.write_text(whole)
    (tmp_path / "000001/pretrained_model/tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_model(tmp_path / "000001", build_model)


@pytest.mark.parametrize(("tower", "way_out"), [("frozen", "smaller"), ("trained", "leave out")])
def test_dual_encoder_too_large_for_memory_is_refused(
    clip: Path, monkeypatch: pytest.MonkeyPatch, tower: Any, way_out: str
) -> None:
    settings = VLMConfig(tower=tower)
    needed = dual_bytes_needed(num_parameters(clip), settings)
    monkeypatch.setattr("nearer.models.vlm.memory_check.free_memory", lambda settings: needed - 1)
    with pytest.raises(ConfigError, match=way_out):
        small_dual_encoder(clip, settings)
    monkeypatch.setattr("nearer.models.vlm.memory_check.free_memory", lambda settings: needed)
    small_dual_encoder(clip, settings)


def test_pretrained_dual_smaller_image_px_gives_fewer_patches(clip_or_siglip2: Path) -> None:
    model = small_dual_encoder(clip_or_siglip2, VLMConfig(image_px=16, frames=1))
    assert model.counts == [5]
    assert model.vision_encoder.width == 5 * model.towers.width
    with pytest.raises(ConfigError, match=r"--vlm\.image-px must be a multiple of 8"):
        small_dual_encoder(clip_or_siglip2, VLMConfig(image_px=20))
    with pytest.raises(ConfigError, match="at most"):
        small_dual_encoder(clip_or_siglip2, VLMConfig(image_px=64))


def test_factory_new_model_of_a_dual_encoders_folder_is_a_dual_encoder(clip: Path) -> None:
    model = new_model(str(clip), VLMConfig(), SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(model, DualEncoder)


def test_dual_encoder_trained_tower_is_frozen_once_loaded(
    clip_or_siglip2: Path, tmp_path: Path
) -> None:
    model = small_dual_encoder(clip_or_siglip2, VLMConfig(tower="trained"))
    assert model.vision_encoder.width == 2 * 24 * 40 * 3, "Stage 1 must get raw pixels"
    before = weights_hash(torch.nn.ModuleList(model.tower))
    text_before = weights_hash(model.network.text_model)
    fine_tune(model, model_inputs(model), updates=1)
    assert weights_hash(torch.nn.ModuleList(model.tower)) != before
    assert weights_hash(model.network.text_model) == text_before
    with torch.inference_mode():
        expected = model.steps_to_go_logits(model_inputs(model))
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert isinstance(loaded, DualEncoder)
    assert not any(weight.requires_grad for weight in loaded.network.parameters())
    with torch.inference_mode():
        logits = loaded.steps_to_go_logits(model_inputs(loaded))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
