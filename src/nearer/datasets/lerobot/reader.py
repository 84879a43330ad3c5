"""A LeRobotDataset v3.0 as numpy arrays: numbers at once, images on demand.

    open_dataset(path)              meta/info.json -> episodes table -> data files -> Dataset
    dataset.columns["action"]       [frames, action], episode after episode
    dataset.frames(key, indices)    [frames, h, w, 3], decoded from parquet or mp4

What meta/info.json counts is what exists: files and rows beyond its totals are leftovers of a
writer that was killed, and are not read.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64, UInt8

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.images import decode_image
from nearer.datasets.lerobot.parquet import read_columns, read_encoded_images, read_lists
from nearer.datasets.lerobot.schema import (
    INFO_PATH,
    PROGRESS_PATH,
    STANDARD_FEATURES,
    TASKS_PATH,
    DatasetInfo,
    numbered_file,
    read_info,
)
from nearer.datasets.lerobot.videos import decode_video
from nearer.runs.hub import download

Files = Int64[Array, "episodes 2"]
"""Chunk and file number of the file that holds each episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPlaces:
    """Where a camera's episodes lie.

    Args:
        files: Chunk and file number of each episode's mp4.
        starts_s: When each episode starts in its file, in seconds.
    """

    files: Files
    starts_s: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set whose numbers are in memory and whose images are on disk.

    Args:
        root: The folder that holds meta/info.json.
        info: What meta/info.json says.
        tasks: Instructions; `columns["task_index"]` points into them.
        episode_lengths: Frames per episode.
        episode_starts: Row of each episode's first frame in `columns`.
        columns: Every numeric feature, [frames, *shape] in the dtype of info.json; the five
            standard ones (timestamp in seconds, frame_index, ...) are [frames]. Read-only:
            copy them before writing to them or handing them to torch.from_numpy.
        data_files: Which data file holds each episode.
        videos: Which part of which video file holds each episode, by camera key.
    """

    root: Path
    info: DatasetInfo
    tasks: tuple[str, ...]
    episode_lengths: Int64[Array, "episodes"]
    episode_starts: Int64[Array, "episodes"]
    columns: Mapping[str, Array]
    data_files: Files
    videos: Mapping[str, VideoPlaces]

    def task_of_episode(self, episode: int) -> str:
        """Return the instruction of an episode: the one of its first frame."""
        return self.tasks[self.columns["task_index"][self.episode_starts[episode]]]

    def frames(self, key: str, indices: Int[Array, "frames"]) -> UInt8[Array, "frames h w 3"]:
        """Return RGB images in [0, 255], in the order of `indices`.

        Each file is opened once a call, so one call for many frames beats many calls.

        Args:
            key: An image or video feature, such as "observation.images.top".
            indices: Rows of `columns`.

        Raises:
            DatasetError: No such camera, a row out of range, or a file that is missing or damaged.
        """
        self._check_camera(key, indices)
        height, width = self.info.features[key].image_size
        images = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        episodes = np.searchsorted(self.episode_starts, indices, side="right") - 1
        files = (self.videos[key].files if key in self.videos else self.data_files)[episodes]
        for chunk, file in np.unique(files, axis=0).tolist():
            places = np.flatnonzero((files == (chunk, file)).all(axis=1))
            read = self._video_frames if key in self.videos else self._image_frames
            of_file = read(key, chunk, file, indices[places], episodes[places])
            for place, image in zip(places, of_file, strict=True):
                if image.shape != (height, width, 3):
                    raise DatasetError(
                        f"{key} must be {height} x {width} pixels as meta/info.json of {self.root} "
                        f"says, got {image.shape[0]} x {image.shape[1]} in frame "
                        f"{indices[place]}; correct the file"
                    )
                images[place] = image
        return images

    def _check_camera(self, key: str, indices: Int[Array, "frames"]) -> None:
        features = self.info.features
        cameras = sorted(name for name in features if features[name].is_camera)
        if key not in cameras or features[key].is_depth_map:
            raise DatasetError(f"key must name a colour camera of {cameras}, got {key!r}")
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.info.total_frames:
            raise DatasetError(
                f"indices must lie in [0, {self.info.total_frames}), got "
                f"{indices.min()} to {indices.max()}"
            )

    def _video_frames(
        self, key: str, chunk: int, file: int, indices: Array, episodes: Array
    ) -> Sequence[Array]:
        path = self.root / self.info.video_file(key, chunk, file)
        times_s = self.videos[key].starts_s[episodes] + self.columns["timestamp"][indices]
        return decode_video(path, times_s.astype(np.float64), self.info.fps)

    def _image_frames(
        self, key: str, chunk: int, file: int, indices: Array, episodes: Array
    ) -> Sequence[Array]:
        path = self.root / self.info.data_file(chunk, file)
        in_file = (self.data_files == (chunk, file)).all(axis=1)
        first_row = self.episode_starts[np.flatnonzero(in_file)[0]]
        encoded = read_encoded_images(path, key, indices - first_row)
        return [
            decode_image(image, f"{key} of frame {index} in {path}")
            for image, index in zip(encoded, indices, strict=True)
        ]


def open_dataset(path: Path | str) -> Dataset:
    """Return the data set in a folder; only its numbers are read.

    Raises:
        DatasetError: The folder is no LeRobotDataset v3.0, a file is missing or damaged, or the
            files contradict each other.
    """
    root = Path(path)
    info = read_info(root)
    places = read_episodes_table(root, info, _place_columns(info))
    lengths = places["length"]
    if lengths.sum() != info.total_frames or (lengths < 1).any():
        raise DatasetError(
            f"{root / INFO_PATH} must count the frames of the episodes table, {lengths.sum()} in "
            f"{len(lengths)} episodes of 1 or more, got {info.total_frames}; correct the file"
        )
    data_files = np.stack([places["data/chunk_index"], places["data/file_index"]], axis=1)
    columns = _read_data(root, info, data_files)
    _check_episode_index(root, columns["episode_index"], lengths)
    tasks = read_tasks(root, info)
    strange = np.setdiff1d(columns["task_index"], np.arange(len(tasks)))
    if len(strange):
        message = f"{root / TASKS_PATH} must name task {strange[0]}"
        raise DatasetError(f"{message}, got {len(tasks)} tasks; restore the file")
    for values in columns.values():
        # Some are views of what pyarrow read, which cannot be written; so none can.
        values.flags.writeable = False
    return Dataset(
        root=root,
        info=info,
        tasks=tasks,
        episode_lengths=lengths,
        episode_starts=np.cumsum(lengths) - lengths,
        columns=columns,
        data_files=data_files,
        videos={key: _video_places(key, places) for key in info.video_keys},
    )


def read_tasks(root: Path, info: DatasetInfo) -> tuple[str, ...]:
    """Return the committed instructions by task_index; raise DatasetError if some are missing."""
    if not info.total_tasks:
        return ()
    path = root / TASKS_PATH
    table = read_lists(path, ["task_index", "task"])
    by_index = dict(zip(table["task_index"], table["task"], strict=True))
    missing = [index for index in range(info.total_tasks) if index not in by_index]
    if missing:
        message = f"{path} must name {info.total_tasks} tasks, as {INFO_PATH} says"
        raise DatasetError(f"{message}, got none for task_index {missing[0]}; restore the file")
    return tuple(str(by_index[index]) for index in range(info.total_tasks))


def read_episodes_table(root: Path, info: DatasetInfo, names: Sequence[str]) -> dict[str, Array]:
    """Return columns of the episodes table, [episodes, ...] each, committed episodes only.

    Raises:
        DatasetError: A file is damaged, a column is missing, or episodes are.
    """
    folder = root / "meta" / "episodes"
    parts: list[dict[str, Array]] = []
    num_read = 0
    for path in numbered_files(folder):
        if num_read >= info.total_episodes:
            break
        part = read_columns(path, ["episode_index", *names])
        parts.append(part)
        num_read += len(part["episode_index"])
    if num_read < info.total_episodes:
        raise DatasetError(
            f"{folder} must list {info.total_episodes} episodes, as {INFO_PATH} says, got "
            f"{num_read}; restore or download its files again"
        )
    if not parts:
        return {name: np.empty(0, dtype=np.int64) for name in names}
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    table = {name: values[: info.total_episodes] for name, values in table.items()}
    wrong = np.flatnonzero(table["episode_index"] != np.arange(info.total_episodes))
    if len(wrong):
        raise DatasetError(
            f"{folder} must list episodes 0, 1, 2, ... in order, got episode "
            f"{table['episode_index'][wrong[0]]} in row {wrong[0]}; restore its files"
        )
    return table


def numbered_files(folder: Path) -> list[Path]:
    """Return the chunk-*/file-*.parquet files of a folder in the order of their numbers."""
    # Numbers are padded with zeros to three digits, so longer names are later ones.
    return sorted(folder.glob("chunk-*/file-*.parquet"), key=lambda path: (len(str(path)), path))


def read_progress(dataset: Dataset) -> Mapping[str, Array] | None:
    """Return what was recorded beside the frames, or None if nothing was.

    Returns:
        Columns [rows, ...]; `index` says which frame a row belongs to, since appends without
        progress leave no rows.

    Raises:
        DatasetError: A file is damaged, or files differ in their columns.
    """
    names = [numbered_file(PROGRESS_PATH, *file) for file in runs(dataset.data_files)]
    paths = [dataset.root / name for name in names if (dataset.root / name).exists()]
    if not paths:
        return None
    parts = [read_columns(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if part.keys() != parts[0].keys():
            message = f"{path} must have the columns {sorted(parts[0])}, as {paths[0]} has"
            raise DatasetError(f"{message}, got {sorted(part)}; delete one of the two")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def runs(files: Files) -> Iterator[tuple[int, int]]:
    """Give each (chunk, file) once, in the order of the episodes."""
    last = None
    for chunk, file in files.tolist():
        if (chunk, file) != last:
            yield chunk, file
        last = (chunk, file)


def _place_columns(info: DatasetInfo) -> list[str]:
    names = ["length", "data/chunk_index", "data/file_index"]
    for key in info.video_keys:
        names += [f"videos/{key}/{part}" for part in ("chunk_index", "file_index")]
        names.append(f"videos/{key}/from_timestamp")
    return names


def _video_places(key: str, places: Mapping[str, Array]) -> VideoPlaces:
    chunks, files = places[f"videos/{key}/chunk_index"], places[f"videos/{key}/file_index"]
    return VideoPlaces(
        files=np.stack([chunks, files], axis=1),
        starts_s=places[f"videos/{key}/from_timestamp"].astype(np.float64),
    )


def _read_data(root: Path, info: DatasetInfo, files: Files) -> dict[str, Array]:
    """Return every numeric feature, [frames, *shape], of the committed episodes."""
    paths = [root / info.data_file(chunk, file) for chunk, file in runs(files)]
    parts = [read_columns(path, info.numeric_keys) for path in paths]
    if not parts:
        return {key: _shaped(info, key, np.empty(0), root) for key in info.numeric_keys}
    columns: dict[str, Array] = {}
    for key in info.numeric_keys:
        # One file is the common case, and needs no copy.
        values = parts[0][key] if len(parts) == 1 else _concatenate(key, parts, paths)
        columns[key] = _shaped(info, key, values, root)
    committed = columns["episode_index"] < info.total_episodes
    if committed.all():
        return columns
    return {key: values[committed] for key, values in columns.items()}


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
    return values.reshape(len(values), *shape).astype(feature.dtype, copy=False)


def _check_episode_index(
    root: Path, episode_index: Int64[Array, "frames"], lengths: Int64[Array, "episodes"]
) -> None:
    """Raise DatasetError unless the data rows are those that the episodes table announces."""
    expected = np.repeat(np.arange(len(lengths)), lengths)
    rows = np.bincount(episode_index[episode_index >= 0], minlength=len(lengths))
    wrong = np.flatnonzero(rows != lengths)
    if len(wrong):
        episode = wrong[0]
        raise DatasetError(
            f"episode {episode} of {root} must have {lengths[episode]} rows in the data files, as "
            f"the episodes table says, got {rows[episode]}; restore or download the files again"
        )
    if not np.array_equal(episode_index, expected):
        frame = np.flatnonzero(episode_index != expected)[0]
        raise DatasetError(
            f"frame {frame} of {root} must have episode_index {expected[frame]}, got "
            f"{episode_index[frame]}; restore or download the data files again"
        )


def resolve_dataset(path_or_hub_id: str, revision: str | None) -> Path:
    """Return the folder of a data set, downloaded first if it is on the Hugging Face hub.

    Args:
        path_or_hub_id: An existing folder, else a hub id "user/name".
        revision: Branch, tag or commit on the hub; None for the default branch.

    Raises:
        DatasetError: Neither a folder nor a hub id, not on the hub, or no connection.
    """
    if os.path.isdir(path_or_hub_id):  # which also takes what can be no path
        return Path(path_or_hub_id)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path_or_hub_id):
        raise DatasetError(
            f"a data set must be an existing folder or a hub id 'user/name', got {path_or_hub_id!r}"
        )
    try:
        return download(path_or_hub_id, kind="dataset", revision=revision)
    except OSError as error:
        raise DatasetError(
            f"{path_or_hub_id!r} must be a folder, or a data set on the hub that can be reached, "
            f"got: {error}; check the name and the connection, or log in with `hf auth login`"
        ) from error
