"""The tower on disk: weights as safetensors, everything else as JSON beside them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from nearer.core.errors import CheckpointError
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig
from nearer.runs.files import whole_file, write_json

SHIPPED = Path(__file__).parent / "weights"
"""The weights that come with the package, made by `nearer pretrain`."""
_TENSORS, DESCRIPTION = "pointing.safetensors", "pointing.json"


def load_pointing(folder: Path = SHIPPED) -> PointingTower:
    """Return the pretrained tower, ready to point.

    Args:
        folder: where `nearer pretrain` wrote; the default is what the package ships.

    Raises:
        CheckpointError: the files are missing, damaged or not each other's.
    """
    try:
        described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
        tensors = safetensors.torch.load_file(folder / _TENSORS)
        tower = PointingTower(
            TowerConfig(**described["tower"]), Vocabulary(described["vocabulary"])
        )
        tower.eyes.fold()
        tower.load_state_dict(tensors)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"{folder} must hold {_TENSORS} and {DESCRIPTION} of one nearer pretrain, got: "
            f"{first}; install nearer again, or make them with nearer pretrain"
        ) from error
    return prepared(tower).eval()


def described(folder: Path) -> dict[str, Any]:
    """Return the settings that weights were made with, as their JSON has them."""
    return json.loads((folder / DESCRIPTION).read_text())["settings"]


def prepared(tower: PointingTower) -> PointingTower:
    """Return the tower laid out for speed: channels last, in float32.

    bfloat16 is a little faster where the processor has it, and 200 times slower where it has not.
    """
    tower.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return tower


def save_pointing(tower: PointingTower, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write weights (the trunk in bfloat16, the rest in float16) and their description.

    What is written is the tower for use: its batch normalisation is folded away.

    Args:
        tower: what to write.
        folder: made if it is not there.
        facts: what to say of the weights besides what rebuilds them: settings, seed, measures.
    """
    tower.eyes.fold()
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.to(torch.bfloat16 if name.startswith("trunk.") else torch.float16).contiguous()
        for name, value in tower.state_dict().items()
    }
    described = {
        "tower": asdict(tower.config),
        "vocabulary": list(tower.words.vocabulary.words),
        **facts,
    }
    with whole_file(folder / _TENSORS) as temporary:
        safetensors.torch.save_file(tensors, temporary)
        temporary.chmod(0o644)  # safetensors' own default hides it from other users
    write_json(folder / DESCRIPTION, described)
