"""Values of meta/info.json, which a stranger may have written: each is checked before it is used.

Every function raises ValueError, whose text ends the sentence "info.json must have the form of a
LeRobotDataset, got: ...".
"""

import math
import string
from collections.abc import Mapping
from typing import TypeGuard

_PLACES = frozenset({"chunk_index", "file_index", "episode_chunk", "episode_index", "video_key"})
_MOST_DIGITS = 20  # of a padded number in a file's name
_MAX_COUNT = 2**53
_MAX_FPS = 10_000


def count(document: Mapping[str, object], name: str, least: int = 0) -> int:
    """Return a whole number; raises KeyError where it is missing."""
    return whole(document[name], name, least)


def whole(value: object, name: str, least: int = 0) -> int:
    """Return a whole number that is not absurdly large."""
    if not _is_number(value) or not least <= value <= _MAX_COUNT or value != int(value):
        raise ValueError(f"{name} {value!r}, not a whole number of {least} or more")
    return int(value)


def rate(value: object) -> float:
    """Return frames per second, an int where they are whole."""
    if not _is_number(value) or not 0 < value <= _MAX_FPS:
        raise ValueError(f"fps {value!r}, not a number of frames per second up to {_MAX_FPS:,}")
    return int(value) if value == int(value) else float(value)


def size_mb(value: object) -> float:
    """Return the size of a file in MB."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"a file size of {value!r} MB")
    return value


def template(value: object) -> str:
    """Return the template of file names, if it only fills in numbers and the camera's key."""
    if not isinstance(value, str):
        raise ValueError(f"a path template {value!r}")
    for _, name, spec, conversion in string.Formatter().parse(value):
        if name is None:
            continue
        digits = (spec or "").removesuffix("d")
        plain = not digits or (digits.isdecimal() and int(digits) <= _MOST_DIGITS)
        if name not in _PLACES or conversion or not plain or (spec and name == "video_key"):
            got = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(
                f"the path template {_short(value)!r}, in which {{{_short(got)}}} is none of "
                f"{sorted(_PLACES)} with up to {_MOST_DIGITS} digits"
            )
    return value


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "..."
