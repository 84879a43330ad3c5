"""The form of a LeRobotDataset v3.0: features, meta/info.json, names of files.

Nothing here reads or writes a table; parquet.py does.
Source: lerobot 0.6, https://huggingface.co/docs/lerobot/lerobot-dataset-v3
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from nearer.core.errors import DatasetError

CODEBASE_VERSION = "v3.0"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
PROGRESS_PATH = "nearer_progress/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

DATA_FILES_MB, VIDEO_FILES_MB = 100, 200
"""Sizes at which a new file is started, where info.json names none; lerobot's own."""

_BYTES_A_MB = 1024**2  # lerobot's MB

CONVERTER = "lerobot.scripts.convert_dataset_v21_to_v30"
"""Where lerobot 0.5 and later keep it; lerobot 0.4 had it in lerobot.datasets.v30."""

NUMERIC_DTYPES = frozenset(
    {"bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64"}
    | {"uint8", "uint16", "uint32", "uint64"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One column of a data set: what a frame holds under one key.

    Args:
        dtype: A numpy dtype for numbers, "image" for images inside parquet, "video" for mp4.
        shape: Axes of one frame; (h, w, 3) for images.
        names: Names of the numbers or axes, as JSON, or None.
        info: How a video is encoded, as JSON; None for anything else.
        other: What else info.json says of it, as JSON; written back as it was read.
    """

    dtype: str
    shape: tuple[int, ...]
    names: object = None
    info: Mapping[str, object] | None = None
    other: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def is_numeric(self) -> bool:
        """Whether frames hold numbers rather than images or text."""
        return self.dtype in NUMERIC_DTYPES

    @property
    def is_camera(self) -> bool:
        """Whether frames hold an image, in parquet or in a video: a camera, in lerobot's words."""
        return self.dtype in ("image", "video")

    @property
    def is_depth_map(self) -> bool:
        """Whether an image holds distances rather than colours."""
        info = self.info or {}
        return bool(info.get("is_depth_map") or info.get("video.is_depth_map"))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels; some data sets put the channels first in `shape`."""
        height, width = self.shape[:2] if self.shape[-1] == 3 else self.shape[1:]
        return height, width

    @property
    def statistics_shape(self) -> tuple[int, ...]:
        """Axes of one statistic: the frame's own, or one number a channel for images."""
        return (3, 1, 1) if self.is_camera else self.shape

    def to_json(self) -> dict[str, object]:
        """Return the feature as it stands in info.json."""
        document = {"dtype": self.dtype, "shape": list(self.shape), "names": self.names}
        info = {} if self.info is None else {"info": dict(self.info)}
        return {**document, **info, **self.other}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Feature":
        """Return the feature that info.json describes; raises what a malformed one leads to."""
        own = ("dtype", "shape", "names", "info")
        feature = cls(
            dtype=str(document["dtype"]),
            shape=tuple(int(size) for size in document["shape"]),
            names=document.get("names"),
            info=document.get("info"),
            other={key: value for key, value in document.items() if key not in own},
        )
        if feature.is_camera and len(feature.shape) != 3:
            raise ValueError(f"an image of shape {feature.shape}")
        return feature


STANDARD_FEATURES: Mapping[str, Feature] = {
    "timestamp": Feature(dtype="float32", shape=(1,)),
    "frame_index": Feature(dtype="int64", shape=(1,)),
    "episode_index": Feature(dtype="int64", shape=(1,)),
    "index": Feature(dtype="int64", shape=(1,)),
    "task_index": Feature(dtype="int64", shape=(1,)),
}
"""Columns that every data set has; the writer fills them in, one number a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """What meta/info.json says: the totals in it are what counts as committed.

    Args:
        fps: Frames per second, in Hz.
        chunks_size: Files per chunk folder.
        data_files_size_mb: Size that an episode does not bring a data file to, but starts another.
        video_files_size_mb: The same of a video file.
        data_path: Template of data files, relative to the root.
        video_path: Template of video files, relative to the root; None without videos.
        other: Keys of lerobot's that mean nothing here, as JSON; written back as they were read.
    """

    fps: int
    features: Mapping[str, Feature]
    robot_type: str | None
    total_episodes: int = 0
    total_frames: int = 0
    total_tasks: int = 0
    chunks_size: int = 1000
    data_files_size_mb: float = DATA_FILES_MB
    video_files_size_mb: float = VIDEO_FILES_MB
    data_path: str = DATA_PATH
    video_path: str | None = None
    other: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def max_data_bytes(self) -> int:
        """Size that an episode does not bring a data file to, in bytes."""
        return math.ceil(self.data_files_size_mb * _BYTES_A_MB)

    @property
    def max_video_bytes(self) -> int:
        """Size that an episode does not bring a video file to, in bytes."""
        return math.ceil(self.video_files_size_mb * _BYTES_A_MB)

    @property
    def video_keys(self) -> tuple[str, ...]:
        """Keys of the features that are kept as mp4."""
        return tuple(key for key, feature in self.features.items() if feature.dtype == "video")

    @property
    def numeric_keys(self) -> tuple[str, ...]:
        """Keys of the features that are kept as numbers."""
        return tuple(key for key, feature in self.features.items() if feature.is_numeric)

    def data_file(self, chunk: int, file: int) -> str:
        """Return the name of a data file, relative to the root."""
        return self.data_path.format(chunk_index=chunk, file_index=file)

    def video_file(self, key: str, chunk: int, file: int) -> str:
        """Return the name of a video file, relative to the root."""
        template = self.video_path or VIDEO_PATH
        return template.format(video_key=key, chunk_index=chunk, file_index=file)

    def to_json(self) -> dict[str, object]:
        """Return info.json, key by key as lerobot writes it."""
        total = self.total_episodes
        return {
            "codebase_version": CODEBASE_VERSION,
            "fps": self.fps,
            "features": {key: feature.to_json() for key, feature in self.features.items()},
            "total_episodes": total,
            "total_frames": self.total_frames,
            "total_tasks": self.total_tasks,
            "chunks_size": self.chunks_size,
            "data_files_size_in_mb": self.data_files_size_mb,
            "video_files_size_in_mb": self.video_files_size_mb,
            "data_path": self.data_path,
            "video_path": self.video_path,
            "robot_type": self.robot_type,
            "splits": {"train": f"0:{total}"} if total else {},
            **self.other,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: Path) -> "DatasetInfo":
        """Return info.json's content with its types checked.

        Args:
            document: The parsed JSON.
            path: Where it came from, for the messages.

        Raises:
            DatasetError: Another format version, or a key that is missing or malformed.
        """
        version = document.get("codebase_version")
        if version != CODEBASE_VERSION:
            raise DatasetError(_version_message(version, path))
        try:
            info = cls(
                fps=_whole(document["fps"]),
                features={
                    key: Feature.from_json(value) for key, value in document["features"].items()
                },
                robot_type=document.get("robot_type"),
                total_episodes=int(document["total_episodes"]),
                total_frames=int(document["total_frames"]),
                total_tasks=int(document["total_tasks"]),
                chunks_size=int(document["chunks_size"]),
                data_files_size_mb=_size_mb(document.get("data_files_size_in_mb", DATA_FILES_MB)),
                video_files_size_mb=_size_mb(
                    document.get("video_files_size_in_mb", VIDEO_FILES_MB)
                ),
                data_path=str(document["data_path"]),
                video_path=document.get("video_path"),
            )
            _ = info.data_file(0, 0), info.video_file("camera", 0, 0)
        except KeyError as error:
            raise DatasetError(f"{path} must have the key {error}; restore the file") from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            message = f"{path} must have the form of LeRobotDataset v3.0, got: {error}"
            raise DatasetError(f"{message}; restore the file") from error
        missing = STANDARD_FEATURES.keys() - info.features.keys()
        if missing:
            raise DatasetError(f"{path} must have the feature {min(missing)!r}; restore the file")
        own = info.to_json()
        other = {key: value for key, value in document.items() if key not in own}
        return replace(info, other=other)


def has_room(written_bytes: int, written_frames: int, frames: int, max_bytes: float) -> bool:
    """Tell whether a file stays below its limit when it holds `frames` in all.

    As far as the mean frame in it tells; an empty file has room. Source: lerobot's own rule.
    """
    return not written_frames or written_bytes / written_frames * frames < max_bytes


def numbered_file(template: str, chunk: int, file: int) -> str:
    """Return the name of a chunk's file, for the templates of this module."""
    return template.format(chunk_index=chunk, file_index=file)


def new_info(features: Mapping[str, Feature], fps: int, robot_type: str | None) -> DatasetInfo:
    """Return what a data set without episodes says of itself, standard features included."""
    has_video = any(feature.dtype == "video" for feature in features.values())
    return DatasetInfo(
        fps=fps,
        features={**features, **STANDARD_FEATURES},
        robot_type=robot_type,
        video_path=VIDEO_PATH if has_video else None,
    )


def read_info(root: Path) -> DatasetInfo:
    """Return what a data set says of itself.

    Raises:
        DatasetError: `root` holds no data set, or one of another format version, or info.json is
            damaged.
    """
    path = root / INFO_PATH
    if not path.is_file():
        raise DatasetError(
            f"{root} must hold a LeRobotDataset v3.0, got no file {INFO_PATH} in it; "
            "give the folder above meta/, or a hub id such as user/name"
        )
    return DatasetInfo.from_json(_read_json(path), path)


def _whole(number: float) -> int:
    if number != int(number) or number < 1:
        raise ValueError(f"fps {number}, not a whole number of frames per second")
    return int(number)


def _size_mb(size: float) -> float:
    if not 0 < size < math.inf:
        raise ValueError(f"a file size of {size} MB")
    return size


def _version_message(version: object, path: Path) -> str:
    message = f"{path} must say codebase_version {CODEBASE_VERSION!r}, got {version!r}"
    if version == "v2.1":
        return f"{message}; convert a copy with `python -m {CONVERTER} --repo-id=... --root=...`"
    return f"{message}; convert the data set with the lerobot release that reads this version"


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file.

    Raises:
        DatasetError: The file is missing, cannot be read, or is no JSON object.
    """
    try:
        document: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(
            f"{path} must be readable, got {error.strerror!r}; restore the file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} must be valid JSON, got: {error}; restore the file") from error
    if not isinstance(document, dict):
        raise DatasetError(f"{path} must hold a JSON object, got {document!r}; restore the file")
    return cast(dict[str, Any], document)


def check_new_features(features: Mapping[str, Feature]) -> None:
    """Raise DatasetError unless the features can be written.

    Numbers have up to five axes, images are (h, w, 3), videos have even sides (yuv420p halves
    them), and the standard features are left to the writer.
    """
    for key, feature in features.items():
        if key in STANDARD_FEATURES:
            raise DatasetError(f"features must leave {key!r} to the writer; remove it")
        if feature.is_camera:
            _check_camera_feature(key, feature)
        elif not feature.is_numeric:
            dtypes = sorted(NUMERIC_DTYPES | {"image", "video"})
            raise DatasetError(f"{key}: dtype must be one of {dtypes}, got {feature.dtype!r}")
        elif not 1 <= len(feature.shape) <= 5 or math.prod(feature.shape) == 0:
            raise DatasetError(
                f"{key}: shape must have 1 to 5 axes, none empty, got {feature.shape}"
            )


def _check_camera_feature(key: str, feature: Feature) -> None:
    if len(feature.shape) != 3 or feature.shape[-1] != 3 or min(feature.shape) < 1:
        raise DatasetError(f"{key}: shape must be (height, width, 3), got {feature.shape}")
    if feature.dtype == "video" and any(size % 2 for size in feature.image_size):
        height, width = feature.image_size
        raise DatasetError(
            f"{key}: a video's height and width must be even, got {height} x {width}; "
            "crop by one pixel, or use dtype 'image'"
        )
