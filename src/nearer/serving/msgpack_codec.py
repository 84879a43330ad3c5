"""msgpack with numpy arrays, as openpi's client packs them; nothing else is accepted.

    array   {b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [2]}
    number  {b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}

Clients are not trusted: sizes, depth and the number of values are bounded before anything is built,
types are those of a fixed list, and no byte is ever executed or used as a name.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import msgpack
import numpy as np

from nearer.core.errors import MessageError

DTYPES = frozenset(
    {"|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"}
)
"""Types of numbers that are accepted: no text, no objects, no big-endian numbers."""

_MAX_AXES = 4
_MAX_TEXT = 4096  # bytes of a key or a text
_MAX_ITEMS = 256  # of one list or map; msgpack's own limit of depth is 1024
_MAX_VALUES = 65_536  # of all lists and maps of a message together; arrays count once
_ARRAY = {b"__ndarray__", b"data", b"dtype", b"shape"}
_NUMBER = {b"__npgeneric__", b"data", b"dtype"}
_ADVICE = "pack observations with openpi_client.msgpack_numpy"


def pack(message: Mapping[str, object]) -> bytes:
    """Return a message as bytes: text, numbers, truth values, lists, dictionaries and arrays."""
    return cast(bytes, msgpack.packb(message, default=_packed))


def _packed(value: object) -> object:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a message must hold text, numbers and arrays, got {type(value).__name__}")
    array = cast("np.ndarray[Any, np.dtype[Any]]", value)
    assert array.dtype.str in DTYPES, f"{array.dtype} is not a type of the protocol"
    return {
        b"__ndarray__": True,
        b"data": array.tobytes(),
        b"dtype": array.dtype.str,
        b"shape": array.shape,
    }


def unpack(data: bytes) -> dict[str, object]:
    """Return a message: by name, values that are text, numbers, lists, dictionaries or arrays.

    Arrays share the bytes' memory and are read-only.

    Raises:
        MessageError: it is no msgpack map, or holds what is not accepted.
    """
    reader = _Reader()
    try:
        message: object = cast(Any, msgpack).unpackb(
            data,
            object_pairs_hook=reader.take_map,
            list_hook=reader.take_list,
            ext_hook=_refuse_extension,
            strict_map_key=True,
            max_str_len=_MAX_TEXT,
            max_bin_len=len(data),
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
            max_ext_len=0,
        )
    except MessageError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise MessageError(f"a message must be msgpack, got: {reason}; {_ADVICE}") from error
    if not isinstance(message, dict):
        raise MessageError(
            f"a message must be a map of observations by name, got {type(message).__name__}; "
            f"{_ADVICE}"
        )
    named = cast(dict[str | bytes, object], message)
    if not all(isinstance(name, str) for name in named):
        raise MessageError(f"the names in a message must be text, got bytes; {_ADVICE}")
    return cast(dict[str, object], named)


def _refuse_extension(code: int, data: bytes) -> object:
    raise MessageError(f"a message must hold no msgpack extension, got type {code}; {_ADVICE}")


class _Reader:
    """Builds the values of one message, and bounds their number."""

    def __init__(self) -> None:
        self._values = 0

    def take_list(self, values: list[object]) -> list[object]:
        self._count(len(values))
        return values

    def take_map(self, pairs: list[tuple[str | bytes, object]]) -> object:
        self._count(len(pairs))
        values = dict(pairs)
        if values.keys() == _ARRAY:
            return _array(values[b"data"], values[b"dtype"], values[b"shape"])
        if values.keys() == _NUMBER:
            return _number(values[b"data"], values[b"dtype"])
        return values

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > _MAX_VALUES:
            raise MessageError(
                f"a message must hold at most {_MAX_VALUES} values apart from the numbers in "
                "arrays, got more; send arrays of numpy"
            )


def _array(data: object, dtype: object, shape: object) -> object:
    kind = _dtype(dtype)
    sizes = cast(list[object], shape) if isinstance(shape, list) else [shape]
    axes = [size for size in sizes if type(size) is int and 0 <= size < 1 << 31]
    if not isinstance(shape, list) or len(axes) != len(sizes) or len(axes) > _MAX_AXES:
        raise MessageError(
            f"the shape of an array must be a list of up to {_MAX_AXES} sizes, got "
            f"{str(sizes)[:80]}; {_ADVICE}"
        )
    num_bytes = math.prod(axes) * kind.itemsize
    if not isinstance(data, bytes) or len(data) != num_bytes:
        got = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise MessageError(
            f"an array of {kind.name} and shape {axes} must come with {num_bytes} bytes, got "
            f"{got}; {_ADVICE}"
        )
    return np.frombuffer(data, dtype=kind).reshape(axes)


def _number(data: object, dtype: object) -> object:
    kind = _dtype(dtype)
    if not isinstance(data, bool | int | float):
        raise MessageError(f"a number must be a number, got {type(data).__name__}; {_ADVICE}")
    try:
        with np.errstate(over="ignore"):
            return np.array(data, dtype=kind).item()
    except (OverflowError, ValueError) as error:
        raise MessageError(
            f"a number must fit {kind.name}, got {str(data)[:40]}; {_ADVICE}"
        ) from error


def _dtype(dtype: object) -> "np.dtype[Any]":
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise MessageError(
            f"the dtype of an array must be one of {sorted(DTYPES)}, got {str(dtype)[:40]!r}; "
            "convert it on the robot's side"
        )
    return np.dtype(dtype)
