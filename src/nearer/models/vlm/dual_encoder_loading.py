"""A pretrained dual encoder, or a checkpoint of one, as a model of nearer's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModel

from nearer.core.errors import ConfigError
from nearer.core.spaces import Spaces
from nearer.models.settings import VLMConfig
from nearer.models.vlm.attention_pooling import LookingSizes
from nearer.models.vlm.dual_encoder import DualEncoder
from nearer.models.vlm.image_preprocessing import preparing_of
from nearer.models.vlm.loading import (
    Source,
    network_config,
    num_parameters,
    place,
    read_network,
    read_tokenizer,
    saved_preparing,
    saved_settings,
    saved_tokenizer,
)
from nearer.models.vlm.memory_check import check_memory, check_room
from nearer.models.vlm.text_tokens import Sentences
from nearer.models.vlm.towers import DUAL_ENCODERS, Towers


def pretrained_dual(
    source: Source,
    settings: VLMConfig,
    spaces: Spaces,
    sharded: int = 1,
    sizes: LookingSizes | None = None,
) -> DualEncoder:
    """Return the model to be fine-tuned: pretrained towers, and an untrained top.

    Args:
        source: of the towers.
        settings: how they are fine-tuned.
        spaces: of the robot.
        sharded: processes that will have a part of it each.
        sizes: of the top; None: as usual.

    Raises:
        ConfigError: a setting means nothing here, it is too large for the memory, or the tower
            cannot see such pictures.
        CheckpointError: a file of weights is damaged.
    """
    _check_settings(settings)
    parameters = num_parameters(source.folder)
    check_memory(parameters, settings, source.folder, dual=True, sharded=sharded)
    towers = _towers(source.config)
    tokenizer = read_tokenizer(source.folder)
    sentences = Sentences(tokenizer, towers.form(tokenizer))
    processor = {**towers.pictures, **source.processor}
    preparing = [
        preparing_of(processor, *towers.size(settings.image_px, processor, camera))
        for camera in spaces.cameras
    ]
    network, top = read_network(AutoModel, source.folder, torch.float32), sizes or LookingSizes()
    model = DualEncoder(settings, top, spaces, network, towers, sentences, preparing, learns=True)
    place(model, settings)
    return model


def saved_dual(config: Mapping[str, Any], spaces: Spaces, folder: Path) -> DualEncoder:
    """Return the model that a checkpoint's config.json describes, without its weights.

    Raises:
        CheckpointError: its tokenizer is missing, or the memory is too small.
    """
    check_room(folder)
    settings, sizes = saved_settings(config), LookingSizes(**config["sizes"])
    towers = _towers(network_config(config["network"]))
    tokenizer = saved_tokenizer(folder)
    sentences = Sentences(tokenizer, towers.form(tokenizer))
    network = cast(Any, AutoModel).from_config(towers.config, dtype=torch.float32)
    preparing = [saved_preparing(one) for one in config["preparing"]]
    model = DualEncoder(settings, sizes, spaces, network, towers, sentences, preparing)
    place(model, settings)
    return model


def _check_settings(settings: VLMConfig) -> None:
    """Refuse what a dual encoder has not."""
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


def _towers(config: Any) -> Towers:
    return DUAL_ENCODERS[config.model_type](config)
