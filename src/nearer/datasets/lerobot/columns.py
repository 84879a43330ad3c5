"""Episodes in memory as the columns of a data set: data rows, episodes table, progress rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot import parquet
from nearer.datasets.lerobot.feature import NUMERIC_DTYPES, STANDARD_FEATURES, Feature
from nearer.datasets.lerobot.images import encode_png
from nearer.datasets.lerobot.schema import DatasetInfo
from nearer.datasets.lerobot.statistics import (
    FeatureStatistics,
    episode_statistics,
    image_statistics,
    stack,
)

_PARTS_A_FILE = 4
"""Of numbers; a file may end one of them below its size. 10,000 episodes of 72 frames with 8 random
numbers take 27.6 MB in one part, 29.0 MB in quarters of a file, 36.9 MB in sixteenths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFrames:
    """One episode to write.

    Args:
        task: The instruction, one for all frames.
        columns: Every feature but the standard ones, [frames, *shape] in the feature's dtype;
            images are uint8 RGB, [frames, h, w, 3]. A feature of shape (1,) may be [frames].
    """

    task: str
    columns: Mapping[str, Array]


def check_episodes(
    features: Mapping[str, Feature], episodes: Sequence[EpisodeFrames]
) -> Int64[Array, "episodes"]:
    """Return the frames of each episode.

    Raises:
        DatasetError: No episode, an empty one, or one that does not have exactly the features.
    """
    if not episodes:
        raise DatasetError("episodes must hold at least one episode, got none; append fewer times")
    own = {key: feature for key, feature in features.items() if key not in STANDARD_FEATURES}
    return np.array(
        [_check_episode(own, number, episode) for number, episode in enumerate(episodes)],
        dtype=np.int64,
    )


def _check_episode(features: Mapping[str, Feature], number: int, episode: EpisodeFrames) -> int:
    if episode.columns.keys() != features.keys():
        raise DatasetError(
            f"episode {number} of the append must have the columns {sorted(features)}, "
            f"got {sorted(episode.columns)}"
        )
    frames = len(next(iter(episode.columns.values()), ()))
    for key, feature in features.items():
        values = episode.columns[key]
        dtype = "uint8" if feature.is_camera else feature.dtype
        scalar = values.ndim == 1 and feature.shape == (1,)
        fits = len(values) == frames and (scalar or values.shape[1:] == feature.shape)
        if not fits or values.dtype != dtype:
            raise DatasetError(
                f"{key} of episode {number} of the append must be {dtype} of shape "
                f"{(frames, *feature.shape)}, got {values.dtype} of shape {values.shape}"
            )
    if not frames:
        raise DatasetError(f"episode {number} of the append must have frames, got none; drop it")
    return frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Where an append's rows start, and how they divide into episodes.

    Args:
        first_episode: episode_index of the first episode.
        first_frame: index of the first frame.
        lengths: Frames per episode.
    """

    first_episode: int
    first_frame: int
    lengths: Int64[Array, "episodes"]

    @property
    def starts(self) -> Int64[Array, "episodes"]:
        """Row of each episode's first frame, counted from the append's first frame."""
        return self.lengths.cumsum() - self.lengths

    @property
    def episode_index(self) -> Int64[Array, "episodes"]:
        """Number of each episode in the data set."""
        return self.first_episode + np.arange(len(self.lengths))

    @property
    def index_of_frame(self) -> Int64[Array, "frames"]:
        """Number of each frame in the data set."""
        return self.first_frame + np.arange(int(self.lengths.sum()))

    @property
    def episode_of_frame(self) -> Int64[Array, "frames"]:
        """Number of each frame's episode in the data set."""
        return np.repeat(self.episode_index, self.lengths)

    @property
    def frame_index(self) -> Int64[Array, "frames"]:
        """Number of each frame in its episode."""
        return np.arange(int(self.lengths.sum())) - np.repeat(self.starts, self.lengths)


def frame_columns(
    features: Mapping[str, Feature],
    episodes: Sequence[EpisodeFrames],
    rows: Rows,
    task_indices: Int64[Array, "episodes"],
    fps: float,
) -> dict[str, Array]:
    """Return the numbers of all frames, [frames, *shape] by feature, standard ones included.

    `timestamp` stays float64 seconds here, so that its statistics are lerobot's.
    """
    standard = {
        "timestamp": rows.frame_index / fps,
        "frame_index": rows.frame_index,
        "episode_index": rows.episode_of_frame,
        "index": rows.index_of_frame,
        "task_index": np.repeat(task_indices, rows.lengths),
    }
    columns: dict[str, Array] = {}
    for key, feature in features.items():
        if feature.is_numeric:
            parts = [standard[key]] if key in standard else [e.columns[key] for e in episodes]
            columns[key] = np.concatenate(parts).reshape(-1, *feature.shape)
    return columns


def feature_statistics(
    features: Mapping[str, Feature],
    columns: Mapping[str, Array],
    episodes: Sequence[EpisodeFrames],
    lengths: Int64[Array, "episodes"],
) -> dict[str, FeatureStatistics]:
    """Return the statistics of every episode, by feature."""
    return {
        key: (
            stack([image_statistics(episode.columns[key]) for episode in episodes])
            if feature.is_camera
            else episode_statistics(columns[key], lengths)
        )
        for key, feature in features.items()
    }


def data_tables(
    features: Mapping[str, Feature],
    columns: Mapping[str, Array],
    episodes: Sequence[EpisodeFrames],
    lengths: Int64[Array, "episodes"],
    max_bytes: int,
) -> Iterator[parquet.ArrowTable]:
    """Give data rows, some whole episodes at a time: one if they hold images, else many.

    Args:
        features: All of them.
        columns: Numbers of all frames.
        episodes: Images of the frames.
        lengths: Frames of each episode.
        max_bytes: Size of a file; numbers come in quarters of it.
    """
    has_images = any(feature.dtype == "image" for feature in features.values())
    frame_bytes = sum(values[0].nbytes for values in columns.values())
    # One row group per episode of images, so that a reader of few images reads few.
    frames = 1 if has_images else max_bytes // _PARTS_A_FILE // frame_bytes
    stops = lengths.cumsum()
    first = 0
    while first < len(lengths):
        start = int(stops[first] - lengths[first])
        last = max(first, int(np.searchsorted(stops, start + frames, side="right")) - 1)
        rows = {key: values[start : stops[last]] for key, values in columns.items()}
        yield _data_table(features, rows, episodes[first].columns)
        first = last + 1


def _data_table(
    features: Mapping[str, Feature], columns: Mapping[str, Array], images: Mapping[str, Array]
) -> parquet.ArrowTable:
    arrows: dict[str, parquet.ArrowArray] = {}
    for key, feature in features.items():
        if feature.is_numeric:
            values = columns[key].astype(feature.dtype, copy=False)
            arrows[key] = parquet.feature_column(feature, values)
        elif feature.dtype == "image":
            names = [f"frame-{frame:06d}.png" for frame in range(len(images[key]))]
            arrows[key] = parquet.image_column(encode_png(images[key]), names)
    return parquet.data_table(arrows, features)


def episodes_table(
    rows: Rows,
    tasks: Sequence[str],
    statistics: Mapping[str, FeatureStatistics],
    files: Mapping[str, Int64[Array, "episodes"]],
    info: DatasetInfo,
) -> parquet.ArrowTable:
    """Return the append's rows of the episodes table.

    Args:
        rows: Episodes and their lengths.
        tasks: Instruction of each episode.
        statistics: Of each episode, by feature.
        files: Number of each episode's file, counted through all chunks, by folder: "data",
            "meta/episodes" and "videos/KEY" of each camera.
        info: Of the data set.
    """
    starts = rows.first_frame + rows.starts
    columns: dict[str, Array] = {
        "length": rows.lengths,
        **_places("data", files, info),
        "dataset_from_index": starts,
        "dataset_to_index": starts + rows.lengths,
    }
    for key in info.video_keys:
        columns |= _places(f"videos/{key}", files, info)
        numbers = files[f"videos/{key}"]
        # An append starts new files, so the first episode of each is among these.
        in_file = rows.starts - rows.starts[np.searchsorted(numbers, numbers)]
        columns[f"videos/{key}/from_timestamp"] = in_file / info.fps
        columns[f"videos/{key}/to_timestamp"] = (in_file + rows.lengths) / info.fps
    for key, values in statistics.items():
        for name, numbers in values.columns().items():
            count = name == "count"
            columns[f"stats/{key}/{name}"] = numbers.reshape(-1, 1) if count else numbers
    columns |= _places("meta/episodes", files, info)
    arrows = {name: parquet.lists(values) for name, values in columns.items()}
    first = {"episode_index": parquet.lists(rows.episode_index), "tasks": parquet.text_lists(tasks)}
    return parquet.plain_table({**first, **arrows})


def _places(
    folder: str, files: Mapping[str, Int64[Array, "episodes"]], info: DatasetInfo
) -> dict[str, Array]:
    chunks, in_chunk = np.divmod(files[folder], info.chunks_size)
    return {f"{folder}/chunk_index": chunks, f"{folder}/file_index": in_chunk}


def progress_table(progress: Sequence[Mapping[str, Array]], rows: Rows) -> parquet.ArrowTable:
    """Return what was recorded beside the frames, with the frames' `index` and `episode_index`.

    Args:
        progress: By episode, columns [frames] or [frames, n].
        rows: The frames.

    Raises:
        DatasetError: Episodes, lengths or columns do not match the frames or each other.
    """
    if len(progress) != len(rows.lengths):
        raise DatasetError(
            f"progress must have one entry per episode, {len(rows.lengths)}, got {len(progress)}"
        )
    for number, (entry, length) in enumerate(zip(progress, rows.lengths.tolist(), strict=True)):
        _check_progress(number, entry, progress[0], length)
    columns = {
        name: parquet.fixed_lists(np.concatenate([entry[name] for entry in progress]))
        for name in progress[0]
    }
    index = parquet.fixed_lists(rows.index_of_frame)
    episode_index = parquet.fixed_lists(rows.episode_of_frame)
    return parquet.plain_table({"index": index, "episode_index": episode_index, **columns})


def _check_progress(
    number: int, entry: Mapping[str, Array], first: Mapping[str, Array], length: int
) -> None:
    reserved = entry.keys() & {"index", "episode_index"}
    if reserved or entry.keys() != first.keys():
        raise DatasetError(
            f"progress of episode {number} of the append must have the columns of the others, "
            f"{sorted(first)}, without index and episode_index, got {sorted(entry)}"
        )
    for name, values in entry.items():
        model = first[name]
        fits = values.shape == (length, *model.shape[1:]) and values.dtype == model.dtype
        if not fits or values.ndim > 2 or values.dtype.name not in NUMERIC_DTYPES:
            raise DatasetError(
                f"progress {name!r} of episode {number} of the append must be {model.dtype} of "
                f"shape {(length, *model.shape[1:])}, numbers or rows of them, got "
                f"{values.dtype} of shape {values.shape}"
            )
