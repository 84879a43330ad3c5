"""Damages a file in ways that a bad disk, an editor or a stranger does, drawn from a seed.

    mutations(data, rng)    bytes -> damaged bytes, without end

Bytes are cut, flipped, repeated, emptied. JSON and JSON lines are changed value by value besides,
since bytes that no parser accepts are refused too soon to test what reads the values. In a
safetensors file the header, which is JSON, is changed.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

Rng = np.random.Generator

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 10**6, 2**63, 10**400, 0.5, -1e300, 1e999, float("nan")),
    *("", "text", "/", "../..", "\x00", "x" * 10_000, [], {}, [1, "a"], [[]], {"a": 1}),
)
"""What a value of a JSON file is replaced by."""
_DEEP = 100_000
_HEADER_BYTES = 8  # of a safetensors file, which say how long its JSON header is


def mutations(data: bytes, rng: Rng) -> Iterator[bytes]:
    """Yield damaged versions of a file without end, each of the original.

    Args:
        data: the whole file.
        rng: draws the damage.
    """
    while True:
        of_values = [mutate for mutate in (_in_json, _in_lines, _in_header) if rng.random() < 0.7]
        changed = next(filter(None, (mutate(data, rng) for mutate in of_values)), None)
        yield changed if changed is not None else _in_bytes(data, rng)


def _in_bytes(data: bytes, rng: Rng) -> bytes:
    place, other = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    flipped = bytes(byte ^ (1 << int(rng.integers(8))) for byte in data[place : place + 1])
    ways = (
        data[:place],
        data[place:],
        data[:place] + data[other:],
        data[:other] + data[place:],
        data[:place] + flipped + data[place + 1 :],
        data[:place] + rng.bytes(8) + data[place:],
        b"",
        b"\x00" * len(data),
        b"[" * _DEEP,
    )
    return ways[int(rng.integers(len(ways)))]


def _in_json(data: bytes, rng: Rng) -> bytes | None:
    """Return a JSON file with one value changed; None if it is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return json.dumps(changed_value(document, rng)).encode()


def _in_lines(data: bytes, rng: Rng) -> bytes | None:
    """Return a file of JSON lines with one of them changed, lost or doubled; None if it is none."""
    lines = data.splitlines(keepends=True)
    if len(lines) < 2 and not data.endswith(b"}\n"):
        return None
    row = int(rng.integers(len(lines)))
    changed = _in_json(lines[row], rng)
    if changed is None:
        return None
    ways = ([changed + b"\n"], [changed + b"\n"], [], [lines[row]] * 2)
    return b"".join([*lines[:row], *ways[int(rng.integers(len(ways)))], *lines[row + 1 :]])


def _in_header(data: bytes, rng: Rng) -> bytes | None:
    """Return a safetensors file with its header changed; None if it is none."""
    length = int.from_bytes(data[:_HEADER_BYTES], "little")
    start, end = _HEADER_BYTES, _HEADER_BYTES + length
    header = _in_json(data[start:end], rng) if 0 < length < len(data) else None
    if header is None:
        return None
    return len(header).to_bytes(_HEADER_BYTES, "little") + header + data[end:]


def changed_value(document: Any, rng: Rng) -> Any:
    """Return a JSON value with one value inside it replaced, removed or added."""
    if isinstance(document, dict | list) and document and rng.random() < 0.85:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        key = keys[int(rng.integers(len(keys)))]
        copy = document.copy()
        if rng.random() < 0.15:
            del copy[key]
        elif isinstance(copy, dict) and rng.random() < 0.1:
            copy[f"{key}_"] = copy[key]
        elif isinstance(copy, list) and rng.random() < 0.2:
            copy.append(copy[key])
        else:
            copy[key] = changed_value(copy[key], rng)
        return copy
    return VALUES[int(rng.integers(len(VALUES)))]
