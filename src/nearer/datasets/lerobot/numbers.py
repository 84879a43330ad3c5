"""The numbers of a data set's frames, from its data files.

What info.json counts is what exists: rows of episodes that the episodes table does not list are
leftovers of a writer that was killed, or episodes that were deleted.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.core.memory import check_fits
from nearer.datasets.lerobot.feature import NUMBERS_READ, STANDARD_FEATURES
from nearer.datasets.lerobot.parquet import read_columns
from nearer.datasets.lerobot.schema import INFO_PATH, DatasetInfo
from nearer.datasets.lerobot.stored_files import stored_file

Files = Int64[Array, "episodes 2"]
"""Chunk and file number of the file that holds each episode."""


def check_fits_memory(root: Path, info: DatasetInfo) -> None:
    """Raise DatasetError where the numbers that info.json announces do not fit this machine."""
    frame_bytes = sum(
        math.prod(info.features[key].shape) * np.dtype(info.features[key].dtype).itemsize
        for key in info.numeric_keys
    )
    check_fits(
        info.total_frames * frame_bytes,
        f"the numbers of {root}, by {INFO_PATH}",
        "correct the file, or use a larger machine",
        DatasetError,
    )


def read_data(
    root: Path, info: DatasetInfo, files: Files, numbers: Int64[Array, "episodes"]
) -> tuple[dict[str, Array], Int64[Array, "frames"]]:
    """Return every numeric feature, [frames, *shape], of the committed episodes.

    A feature that nothing reads is left out where a file does not hold it as info.json says.

    Returns:
        The columns, and the row of each frame in its file.
    """
    paths = [stored_file(root, info.data_file(*place)) for place in runs(files)]
    needed = [key for key in info.numeric_keys if key in (*NUMBERS_READ, *STANDARD_FEATURES)]
    others = [key for key in info.numeric_keys if key not in needed]
    names, optional = list(map(info.stored_key, needed)), list(map(info.stored_key, others))
    parts = [read_columns(path, names, optional) for path in paths]
    columns: dict[str, Array] = {}
    for key in info.numeric_keys:
        if not all(info.stored_key(key) in part for part in parts):
            continue
        try:
            columns[key] = _column(root, info, key, parts, paths)
        except DatasetError:
            if key in needed:
                raise
    lengths = [len(part[info.stored_key("episode_index")]) for part in parts]
    rows_in_file = np.concatenate([np.empty(0, np.int64), *map(np.arange, lengths)])
    committed = np.isin(columns["episode_index"], numbers)
    if not committed.all():
        columns = {key: values[committed] for key, values in columns.items()}
        rows_in_file = rows_in_file[committed]
    return columns, rows_in_file


def _column(
    root: Path,
    info: DatasetInfo,
    key: str,
    parts: Sequence[Mapping[str, Array]],
    paths: Sequence[Path],
) -> Array:
    stored = info.stored_key(key)
    if not parts:
        return _shaped(info, key, np.empty(0), root)
    # One file is the common case, and needs no copy.
    values = parts[0][stored] if len(parts) == 1 else _concatenate(stored, parts, paths)
    return _shaped(info, key, values, root)


def _concatenate(key: str, parts: Sequence[Mapping[str, Array]], paths: Sequence[Path]) -> Array:
    for part, path in zip(parts, paths, strict=True):
        if part[key].shape[1:] != parts[0][key].shape[1:]:
            message = f"{path}: {key} must have the shape {parts[0][key].shape[1:]} of other files"
            raise DatasetError(f"{message}, got {part[key].shape[1:]}; repair the data set")
    return np.concatenate([part[key] for part in parts])


def _shaped(info: DatasetInfo, key: str, values: Array, root: Path) -> Array:
    """Return a column in the shape and dtype that info.json gives it."""
    feature = info.features[key]
    shape = () if key in STANDARD_FEATURES else feature.shape
    fits = values.shape[1:] == feature.shape or (values.ndim == 1 and feature.shape == (1,))
    if len(values) and not fits:
        raise DatasetError(
            f"{key} must have the shape {feature.shape} that {INFO_PATH} of {root} says, got "
            f"{values.shape[1:]} in the data files; correct one of the two"
        )
    dtype = np.dtype(feature.dtype)
    if dtype.kind in "iu" and values.dtype.kind == "f" and not _are_whole(values):
        raise DatasetError(
            f"{key} of {root} must hold whole numbers in every row, as {INFO_PATH} says, got "
            "others; restore the data files"
        )
    with np.errstate(over="ignore"):  # infinity, which whoever reads the column refuses
        return values.reshape(len(values), *shape).astype(dtype, copy=False)


def _are_whole(values: Array) -> bool:
    return bool(
        (np.isfinite(values) & (np.abs(values) < 2**53) & (values == np.trunc(values))).all()
    )


def counted_episodes(
    root: Path,
    episode_index: Int64[Array, "frames"],
    numbers: Int64[Array, "episodes"],
    lengths: Int64[Array, "episodes"],
) -> Int64[Array, "frames"]:
    """Return each frame's episode, counted through those that are there.

    Raises:
        DatasetError: The data rows are not those that the episodes table announces.
    """
    counted = np.searchsorted(numbers, episode_index)
    rows = np.bincount(counted, minlength=len(lengths))
    wrong = np.flatnonzero(rows != lengths)
    if len(wrong):
        episode = wrong[0]
        raise DatasetError(
            f"episode {numbers[episode]} of {root} must have {lengths[episode]} rows in the data "
            f"files, as the episodes table says, got {rows[episode]}; restore or download the "
            "files again"
        )
    expected = np.repeat(np.arange(len(lengths)), lengths)
    if not np.array_equal(counted, expected):
        frame = np.flatnonzero(counted != expected)[0]
        raise DatasetError(
            f"frame {frame} of {root} must have episode_index {numbers[expected[frame]]}, got "
            f"{episode_index[frame]}; restore or download the data files again"
        )
    return counted


def runs(files: Files) -> Iterator[tuple[int, int]]:
    """Give each (chunk, file) once, in the order of the episodes."""
    last = None
    for chunk, file in files.tolist():
        if (chunk, file) != last:
            yield chunk, file
        last = (chunk, file)
