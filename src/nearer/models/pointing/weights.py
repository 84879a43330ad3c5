"""The pointing tower on disk: weights as safetensors, everything else as JSON beside them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from nearer.core.errors import CheckpointError
from nearer.models.pointing.efficientnet_lite0 import Lite0
from nearer.models.pointing.lite0_network import Lite0Network
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig
from nearer.models.saved_config import JsonObject
from nearer.runs.checkpoint import check_finite
from nearer.runs.files import whole_file, write_json

Module = TypeVar("Module", bound=nn.Module)
_SHIPPED = Path(__file__).parent / "weights"
LITE0 = _SHIPPED / "lite0"
"""The larger network's weights that come with the package, made by `nearer pretrain`."""
UNET = _SHIPPED / "unet"
"""Those of the smaller one, made by `nearer pretrain --network unet`."""
UNIMODAL = _SHIPPED / "unimodal"
"""The smaller one pretrained on images alone: `nearer pretrain --objective unimodal`."""
_TENSORS, _DESCRIPTION = "pointing.safetensors", "pointing.json"


def load_pointing(folder: Path) -> PointingTower:
    """Return a pretrained tower, in evaluation mode.

    Args:
        folder: where `nearer pretrain` wrote; LITE0, UNET and UNIMODAL come with the package.

    Raises:
        CheckpointError: the files are missing, damaged or not of the same tower.
    """
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        tensors = safetensors.torch.load_file(folder / _TENSORS)
        tower = PointingTower(
            TowerConfig(**description["tower"]), Vocabulary(description["vocabulary"])
        )
        tower.fold_batch_norm()
        tower.load_state_dict(tensors)
        check_finite(tensors, _TENSORS, "copy it again")
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"{folder} must hold {_TENSORS} and {_DESCRIPTION} of one nearer pretrain, got: "
            f"{first}; install nearer again, or make them with nearer pretrain"
        ) from error
    return channels_last(tower).eval()


def pretrained_trunk() -> Lite0:
    """Return the frozen ImageNet network of the larger tower, for images of anything.

    Raises:
        CheckpointError: the files that come with the package are damaged.
    """
    network = load_pointing(LITE0).network
    assert isinstance(network, Lite0Network), "that is the larger network"
    return network.trunk


def settings_json(folder: Path) -> JsonObject:
    """Return the settings that weights were pretrained with, as their JSON has them."""
    return json.loads((folder / _DESCRIPTION).read_text())["settings"]


def measures_json(folder: Path) -> JsonObject:
    """Return what was measured of weights when they were pretrained, as their JSON has it."""
    return json.loads((folder / _DESCRIPTION).read_text())["measures"]


def channels_last(tower: Module) -> Module:
    """Return a network in the memory layout that convolutions are fastest in, in float32.

    bfloat16 is a little faster on processors that have it, and 200 times slower on others.
    """
    tower.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return tower


def save_pointing(tower: PointingTower, folder: Path, pretraining: JsonObject) -> None:
    """Write weights (a trunk in bfloat16, the rest in float16) and their description.

    Batch normalisation is folded into the convolutions first, in place: what is written is the
    tower for inference.

    Args:
        tower: what to write.
        folder: made if it is not there.
        pretraining: settings, losses and measures, kept in the description.
    """
    tower.fold_batch_norm()
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.to(torch.bfloat16 if "trunk." in name else torch.float16).contiguous()
        for name, value in tower.state_dict().items()
    }
    description = {
        "tower": asdict(tower.config),
        "vocabulary": list(tower.words.vocabulary.words),
        **pretraining,
    }
    with whole_file(folder / _TENSORS) as temporary:
        safetensors.torch.save_file(tensors, temporary)
    write_json(folder / _DESCRIPTION, description)
