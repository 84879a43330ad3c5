"""Build a dual encoder from pretrained towers or from a checkpoint."""

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModel

from nearer.core.errors import ConfigError
from nearer.core.spaces import Spaces
from nearer.models.saved_config import JsonObject
from nearer.models.settings import AttentionPoolingConfig, VLMConfig
from nearer.models.vlm.dual_encoder import DualEncoder
from nearer.models.vlm.image_preprocessing import preprocessing_of
from nearer.models.vlm.loading import (
    PretrainedSource,
    move_to_device,
    preprocessing_from_json,
    read_network,
    read_tokenizer,
    saved_tokenizer,
    vlm_config_from_json,
)
from nearer.models.vlm.memory_check import check_checkpoint_fits, check_memory
from nearer.models.vlm.network_config import network_config, num_parameters
from nearer.models.vlm.text_tokens import TextTokenizer
from nearer.models.vlm.towers import DUAL_ENCODERS, DualTowers


def pretrained_dual(
    source: PretrainedSource,
    settings: VLMConfig,
    spaces: Spaces,
    sharded: int = 1,
    sizes: AttentionPoolingConfig | None = None,
) -> DualEncoder:
    """Return the model to be fine-tuned: pretrained towers with untrained heads.

    Args:
        source: of the towers.
        settings: how they are fine-tuned.
        spaces: of the robot.
        sharded: processes that the model will be sharded over.
        sizes: of the heads; None: the defaults.

    Raises:
        ConfigError: a setting does not apply, the model does not fit into memory, or the tower
            takes no images of that size.
        CheckpointError: a file of weights is damaged.
    """
    _check_settings(settings)
    parameters = num_parameters(source.folder)
    check_memory(parameters, settings, source.folder, dual=True, sharded=sharded)
    towers = _towers(source.config)
    tokenizer = read_tokenizer(source.folder)
    text_tokenizer = TextTokenizer(tokenizer, towers.text_format(tokenizer))
    processor = {**towers.preprocessing, **source.processor}
    preprocessing = [
        preprocessing_of(processor, *towers.size(settings.image_px, processor, camera))
        for camera in spaces.cameras
    ]
    network = read_network(AutoModel, source.folder, torch.float32)
    model = DualEncoder(
        settings,
        sizes or AttentionPoolingConfig(),
        spaces,
        network,
        towers,
        text_tokenizer,
        preprocessing,
        before_stage_one=True,
    )
    move_to_device(model, settings)
    return model


def dual_from_json(config: JsonObject, spaces: Spaces, folder: Path) -> DualEncoder:
    """Return the model that a checkpoint's config.json describes, without its weights.

    Raises:
        CheckpointError: its tokenizer is missing, or it does not fit into memory.
    """
    check_checkpoint_fits(folder)
    settings = vlm_config_from_json(config["settings"])
    sizes = AttentionPoolingConfig(**config["sizes"])
    towers = _towers(network_config(config["network"], folder))
    tokenizer = saved_tokenizer(folder)
    text_tokenizer = TextTokenizer(tokenizer, towers.text_format(tokenizer))
    network = cast(Any, AutoModel).from_config(towers.config, dtype=torch.float32)
    preprocessing = [preprocessing_from_json(camera) for camera in config["preprocessing"]]
    model = DualEncoder(settings, sizes, spaces, network, towers, text_tokenizer, preprocessing)
    move_to_device(model, settings)
    return model


def _check_settings(settings: VLMConfig) -> None:
    """Raise ConfigError for settings that do not apply to a dual encoder."""
    if settings.adapt == "lora":
        raise ConfigError(
            "--vlm.adapt must be full for a dual encoder, whose text tower never trains, got "
            "lora; leave it out"
        )
    if settings.checkpointing and settings.tower == "frozen":
        raise ConfigError(
            "--vlm.checkpointing must go with --vlm.tower trained for a dual encoder, got a "
            "frozen tower; leave it out"
        )


def _towers(config: Any) -> DualTowers:
    return DUAL_ENCODERS[config.model_type](config)
