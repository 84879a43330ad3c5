"""Values of a message that has been unpacked: found by their keys, read as arrays, described."""

from collections.abc import Mapping
from typing import cast

import numpy as np

from nearer.core.arrays import Array

_SHOWN_NAMES, _SHOWN_CHARACTERS = 12, 60  # of a message, quoted in an error


def value_at(message: Mapping[str, object], key: str) -> object:
    """Return the value of a key, or of a path such as `images/cam_high`; None: it is not there."""
    if key in message:
        return message[key]
    value: object = message
    for part in key.split("/"):
        if not isinstance(value, Mapping):
            return None
        value = cast(Mapping[object, object], value).get(part)
    return value


def as_array(value: object) -> Array | None:
    """Return an array, or a list of numbers as one; None for anything else."""
    if isinstance(value, np.ndarray):
        return cast(Array, value)
    items = cast(list[object], value) if isinstance(value, list) else None
    if items is not None and all(type(item) in (int, float) for item in items):
        return np.array([float(cast(float, item)) for item in items])
    return None


def names_in(message: Mapping[str, object]) -> str:
    """Return the keys of a message for an error, those in maps as paths."""
    names = [path for key, value in message.items() for path in _paths(key, value)]
    shown = [name[:_SHOWN_CHARACTERS] for name in names[:_SHOWN_NAMES]]
    more = len(names) - len(shown)
    return f"{shown} and {more} more" if more else f"{shown}"


def _paths(key: str, value: object) -> list[str]:
    if not isinstance(value, dict):
        return [key]
    return [f"{key}/{name}" for name in cast(dict[object, object], value)] or [key]


def described(value: object) -> str:
    """Return in few words what a value is."""
    if isinstance(value, np.ndarray):
        array = cast(Array, value)
        return f"{array.dtype.name} of shape {array.shape}"
    if isinstance(value, str):
        return f"{len(value)} characters"
    if isinstance(value, list | dict):
        return f"a {type(cast(object, value)).__name__} of {len(cast(list[object], value))}"
    return f"{type(value).__name__} {str(value)[:_SHOWN_CHARACTERS]}"
