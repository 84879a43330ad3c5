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
from nearer.datasets.lerobot.camera_names import camera_keys
from nearer.datasets.lerobot.episodes_table import read_episodes_table, read_tasks
from nearer.datasets.lerobot.images import decode_image
from nearer.datasets.lerobot.numbers import (
    Files,
    check_fits_memory,
    counted_episodes,
    read_data,
    runs,
)
from nearer.datasets.lerobot.parquet import read_columns, read_encoded_images
from nearer.datasets.lerobot.schema import (
    INFO_PATH,
    PROGRESS_PATH,
    TASKS_PATH,
    DatasetInfo,
    numbered_file,
    read_info,
)
from nearer.datasets.lerobot.stored_files import stored_file
from nearer.datasets.lerobot.timing import (
    VideoPlaces,
    check_timestamps,
    file_places,
    video_places,
)
from nearer.datasets.lerobot.videos import decode_video
from nearer.runs.hub import download

_NO_RENAMES: Mapping[str, str] = {}


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
            standard ones (timestamp in seconds, frame_index, ...) are [frames], and
            `episode_index` counts the episodes that are there. A feature that nothing here reads
            is left out where the files do not hold it whole. Read-only: copy them before writing
            to them or handing them to torch.from_numpy.
        episode_numbers: What the files call each episode: 0, 1, 2, ... unless some were deleted.
        data_files: Which data file holds each episode.
        rows_in_file: Row of each frame in its data file.
        videos: Which part of which video file holds each episode, by camera key.
    """

    root: Path
    info: DatasetInfo
    tasks: tuple[str, ...]
    episode_lengths: Int64[Array, "episodes"]
    episode_starts: Int64[Array, "episodes"]
    columns: Mapping[str, Array]
    episode_numbers: Int64[Array, "episodes"]
    data_files: Files
    rows_in_file: Int64[Array, "frames"]
    videos: Mapping[str, VideoPlaces]

    @property
    def view(self) -> str:
        """Return a text that tells apart what is read of the same files; "" for all of it."""
        renamed = [f"{new} {old}" for new, old in sorted(self.info.stored_keys.items())]
        whole = self.episode_lengths.sum() == self.info.total_frames
        lengths: list[int] = [] if whole else self.episode_lengths.tolist()
        return f" {renamed} {lengths}" if renamed or lengths else ""

    def task_of_episode(self, episode: int) -> str:
        """Return the instruction of an episode, which all of its frames have."""
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
            for place, image in read(key, chunk, file, indices[places], episodes[places]):
                index = indices[places[place]]
                if image.shape != (height, width, 3):
                    raise DatasetError(
                        f"{key} must be {height} x {width} pixels as meta/info.json of {self.root} "
                        f"says, got {image.shape[0]} x {image.shape[1]} in frame {index}; correct "
                        "the file"
                    )
                images[places[place]] = image
        return images

    def _check_camera(self, key: str, indices: Int[Array, "frames"]) -> None:
        features = self.info.features
        cameras = sorted(name for name in features if features[name].is_camera)
        if key not in cameras or features[key].is_depth_map:
            raise DatasetError(f"key must name a colour camera of {cameras}, got {key!r}")
        if features[key].dtype == "video" and key not in self.videos:
            raise DatasetError(
                f"the episodes table of {self.root} must say where the videos of {key} are, got "
                "nothing that is whole; restore its files"
            )
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.info.total_frames:
            raise DatasetError(
                f"indices must lie in [0, {self.info.total_frames}), got "
                f"{indices.min()} to {indices.max()}"
            )

    def _video_frames(
        self, key: str, chunk: int, file: int, indices: Array, episodes: Array
    ) -> Iterator[tuple[int, Array]]:
        path = stored_file(self.root, self.info.video_file(key, chunk, file))
        first_frames = self.videos[key].first_frames[episodes]
        frames = first_frames + indices - self.episode_starts[episodes]
        return decode_video(path, frames / self.info.fps, self.info.fps)

    def _image_frames(
        self, key: str, chunk: int, file: int, indices: Array, episodes: Array
    ) -> Iterator[tuple[int, Array]]:
        path = stored_file(self.root, self.info.data_file(chunk, file))
        rows = self.rows_in_file[indices]
        encoded = read_encoded_images(path, self.info.stored_key(key), rows)
        for place, (image, index) in enumerate(zip(encoded, indices.tolist(), strict=True)):
            yield place, decode_image(image, f"{key} of frame {index} in {path}")


def open_dataset(path: Path | str, renames: Mapping[str, str] = _NO_RENAMES) -> Dataset:
    """Return the data set in a folder; only its numbers are read.

    Args:
        path: The folder that holds meta/info.json.
        renames: New key of a feature, by the key that it has in the files.

    Raises:
        DatasetError: The folder is no LeRobotDataset v3.0 (2.0, 2.1), a file is missing or
            damaged, or the files contradict each other.
    """
    root = Path(path)
    info = read_info(root).renamed(renames, root)
    check_fits_memory(root, info)
    cameras = [key for key in camera_keys(info).values() if key in info.video_keys]
    table = read_episodes_table(root, info, *_place_columns(info, cameras))
    lengths, numbers = table["length"], table["episode_index"]
    # Compared one by one first: what does not fit int64 must not wrap around.
    too_long = (lengths < 1).any() or (lengths > info.total_frames).any()
    if too_long or lengths.sum() != info.total_frames:
        raise DatasetError(
            f"{root / INFO_PATH} must count the frames of the episodes table, {lengths.sum()} in "
            f"{len(lengths)} episodes of 1 or more, got {info.total_frames}; correct the file"
        )
    data_files = file_places(root, table, "data")
    columns, rows_in_file = read_data(root, info, data_files, numbers)
    columns["episode_index"] = counted_episodes(root, columns["episode_index"], numbers, lengths)
    dataset = Dataset(
        root=root,
        info=info,
        tasks=read_tasks(root, info),
        episode_lengths=lengths,
        episode_starts=np.cumsum(lengths) - lengths,
        columns=columns,
        episode_numbers=numbers,
        data_files=data_files,
        rows_in_file=rows_in_file,
        videos=_videos(root, info, cameras, table),
    )
    _check_tasks(dataset)
    _check_videos(dataset)
    for values in columns.values():
        # Some are views of what pyarrow read, which cannot be written; so none can.
        values.flags.writeable = False
    return dataset


def read_progress(dataset: Dataset) -> Mapping[str, Array] | None:
    """Return what was recorded beside the frames, or None if nothing was.

    Returns:
        Columns [rows, ...]; `index` says which frame a row belongs to, since appends without
        progress leave no rows.

    Raises:
        DatasetError: A file is damaged, or files differ in their columns.
    """
    names = [numbered_file(PROGRESS_PATH, *file) for file in runs(dataset.data_files)]
    paths = [stored_file(dataset.root, name) for name in names if (dataset.root / name).exists()]
    if not paths:
        return None
    parts = [read_columns(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if part.keys() != parts[0].keys():
            message = f"{path} must have the columns {sorted(parts[0])}, as {paths[0]} has"
            raise DatasetError(f"{message}, got {sorted(part)}; delete one of the two")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _place_columns(info: DatasetInfo, cameras: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the columns of the episodes table that must be there, and those that may."""
    needed, optional = ["length", "data/chunk_index", "data/file_index"], list[str]()
    for key in info.video_keys:
        folder = f"videos/{info.stored_key(key)}"
        names = optional if key not in cameras else needed
        names += [f"{folder}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    return needed, optional


def _videos(
    root: Path, info: DatasetInfo, cameras: Sequence[str], table: Mapping[str, Array]
) -> dict[str, VideoPlaces]:
    """Return the places of every video; one that is no camera here may be without them."""
    videos: dict[str, VideoPlaces] = {}
    for key in info.video_keys:
        try:
            videos[key] = video_places(root, info, key, table)
        except DatasetError:
            if key in cameras:
                raise
    return videos


def _check_tasks(dataset: Dataset) -> None:
    """Raise DatasetError unless every episode has one instruction, which is known.

    Steps-to-go counts the steps to the end of the instruction; nobody knows whether the part
    before a change has reached its own.
    """
    numbers, tasks = dataset.columns["task_index"], dataset.tasks
    strange = np.flatnonzero((numbers < 0) | (numbers >= len(tasks)))
    if len(strange):
        message = f"{dataset.root / TASKS_PATH} must name task {numbers[strange[0]]}"
        raise DatasetError(f"{message}, got {len(tasks)} tasks; restore the file")
    own = np.repeat(numbers[dataset.episode_starts], dataset.episode_lengths)
    changed = np.flatnonzero(numbers != own)
    if len(changed):
        frame = changed[0]
        episode = dataset.columns["episode_index"][frame]
        place = frame - dataset.episode_starts[episode]
        raise DatasetError(
            f"episode {dataset.episode_numbers[episode]} of {dataset.root} must have one "
            f"instruction, got {tasks[own[frame]]!r} in frames 0 to {place - 1} and "
            f"{tasks[numbers[frame]]!r} in frame {place}; split it there if each part ends where "
            "its instruction is done, else give all frames the instruction of the whole"
        )


def _check_videos(dataset: Dataset) -> None:
    """Raise DatasetError unless timestamps tell which image belongs to which frame."""
    cameras = [key for key in camera_keys(dataset.info).values() if key in dataset.videos]
    if cameras:
        episode = dataset.columns["episode_index"]
        check_timestamps(
            dataset.root,
            dataset.info,
            ", ".join(cameras),
            dataset.columns["timestamp"],
            np.arange(len(episode)) - dataset.episode_starts[episode],
            dataset.episode_numbers[episode],
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
