"""Data and video files of an append: another one where the next episode has no room in the last."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.datasets.lerobot import parquet
from nearer.datasets.lerobot.columns import EpisodeFrames, data_tables
from nearer.datasets.lerobot.schema import DatasetInfo
from nearer.datasets.lerobot.videos import VideoEncoding, encode_video
from nearer.runs.files import StagedFiles

_Write = Callable[[BinaryIO, int], int]
"""Fills a file with the episodes from one on that have room; returns how many frames they have."""


def stage_frames(
    staged: StagedFiles,
    root: Path,
    info: DatasetInfo,
    first_file: int,
    episodes: Sequence[EpisodeFrames],
    columns: Mapping[str, Array],
    lengths: Int64[Array, "episodes"],
) -> dict[str, Int64[Array, "episodes"]]:
    """Write the frames of episodes, and return the number of each one's file, by folder.

    Args:
        staged: Where the files appear.
        root: The data set's folder.
        info: What it says of itself.
        first_file: Number of the first file in every folder, counted through all chunks.
        episodes: With images.
        columns: Numbers of all their frames.
        lengths: Frames of each episode.
    """

    def stage(name: Callable[[int, int], str], write: _Write) -> Int64[Array, "episodes"]:
        def path(number: int) -> Path:
            return root / name(*divmod(number, info.chunks_size))

        return _stage_in_turn(staged, path, first_file, lengths, write)

    files = {"data": stage(info.data_file, partial(_write_data, info, columns, episodes, lengths))}
    for key in info.video_keys:
        write = partial(_write_video, info, key, episodes)
        files[f"videos/{key}"] = stage(partial(info.video_file, key), write)
    return files


def _stage_in_turn(
    staged: StagedFiles,
    path: Callable[[int], Path],
    first_file: int,
    lengths: Int64[Array, "episodes"],
    write: _Write,
) -> Int64[Array, "episodes"]:
    """Write files until every episode is in one, and return the number of each one's file."""
    files = np.zeros(len(lengths), dtype=np.int64)
    stops = lengths.cumsum()
    number, first = first_file, 0
    while first < len(lengths):
        with staged.open(path(number)) as handle:
            frames = int(stops[first] - lengths[first]) + write(handle, first)
        after = int(np.searchsorted(stops, frames, side="right"))
        files[first:after] = number
        number, first = number + 1, after
    return files


def _write_data(
    info: DatasetInfo,
    columns: Mapping[str, Array],
    episodes: Sequence[EpisodeFrames],
    lengths: Int64[Array, "episodes"],
    handle: BinaryIO,
    first: int,
) -> int:
    rows = {key: values[lengths[:first].sum() :] for key, values in columns.items()}
    size = info.max_data_bytes
    tables = data_tables(info.features, rows, episodes[first:], lengths[first:], size)
    return parquet.write_tables(handle, tables, size)


def _write_video(
    info: DatasetInfo, key: str, episodes: Sequence[EpisodeFrames], handle: BinaryIO, first: int
) -> int:
    images = [episode.columns[key] for episode in episodes[first:]]
    encoding = VideoEncoding.of(info.features[key].info)
    return encode_video(handle, images, info.fps, encoding, info.max_video_bytes)
