"""config.json of a pretrained network, which anyone may have written, and the weights beside it.

transformers builds whatever sizes a config.json names, and only then finds that the weights are
others: a million columns take 45 s and 6 GB, a hundred thousand layers minutes. So the network is
built without memory first, and must not be much larger than the files are.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING, AutoModel

from nearer.core.errors import CheckpointError
from nearer.models.saved_config import JsonObject

_LAYERS = ("num_hidden_layers", "num_layers", "depth")
"""Keys that count layers: each takes time to build, even without memory."""
_MOST_OF_THE_FILES = 4
"""Times the weights in the files: where less is missing, reading them says what."""


def network_config(document: JsonObject, folder: Path) -> Any:
    """Return the configuration object of transformers for a config.json.

    Args:
        document: its content; names a kind that transformers knows.
        folder: with the weights.

    Raises:
        CheckpointError: transformers cannot build such a network, the weights are those of a
            smaller one, or a file of them is damaged.
    """
    shapes = weight_shapes(folder)
    layers = max(_counts(document), default=0)
    if layers > len(shapes):
        raise _not_of_these_weights(folder, f"{layers:,} layers")
    try:
        config = CONFIG_MAPPING[document["model_type"]].from_dict(dict(document))
        with torch.device("meta"):
            network = cast(Any, AutoModel).from_config(config)
    except Exception as error:  # others' code raises anything on untrusted values
        raise CheckpointError(
            f"{folder} must hold a config.json that transformers can build a network of, got: "
            f"{' '.join(str(error).split()) or type(error).__name__}; download it again"
        ) from error
    parameters = sum(weight.numel() for weight in network.parameters())
    if parameters > _MOST_OF_THE_FILES * sum(map(math.prod, shapes)):
        raise _not_of_these_weights(folder, f"{parameters:,} weights")
    return config


def num_parameters(folder: Path) -> int:
    """Return the number of weights in a folder; raises as `weight_shapes`."""
    return sum(map(math.prod, weight_shapes(folder)))


def weight_shapes(folder: Path) -> list[tuple[int, ...]]:
    """Return the shapes of all tensors in a folder, from the headers of its files alone.

    Raises:
        CheckpointError: a file is damaged.
    """
    shapes: list[tuple[int, ...]] = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with cast(Any, safe_open(path, framework="pt")) as file:
                names = file.keys()
                shapes += [tuple(file.get_slice(name).get_shape()) for name in names]
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{path} must be a whole safetensors file, got: {error}; download it again"
            ) from error
    return shapes


def _counts(document: Mapping[str, object]) -> Iterator[int]:
    """Yield what a config.json and its parts say under the keys of `_LAYERS`."""
    for key, value in document.items():
        if key in _LAYERS and isinstance(value, int):
            yield value
        elif isinstance(value, Mapping):
            yield from _counts(cast(Mapping[str, object], value))


def _not_of_these_weights(folder: Path, got: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} must hold the weights of the network in config.json, got those of a smaller one "
        f"than its {got}; download it again"
    )
