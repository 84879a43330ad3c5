"""The form of a LeRobotDataset v3.0: features, meta/info.json, file names, schema metadata.

Nothing here reads or writes a table; parquet.py and pictures.py do.
Source: lerobot 0.6, https://huggingface.co/docs/lerobot/lerobot-dataset-v3
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
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
        dtype: A numpy dtype for numbers, "image" for pictures inside parquet, "video" for mp4.
        shape: Axes of one frame; (h, w, 3) for pictures.
        names: Names of the numbers or axes, as JSON, or None.
        info: How a video is encoded, as JSON; None for anything else.
    """

    dtype: str
    shape: tuple[int, ...]
    names: object = None
    info: Mapping[str, Any] | None = None

    @property
    def is_numeric(self) -> bool:
        """Whether frames hold numbers rather than pictures or text."""
        return self.dtype in NUMERIC_DTYPES

    @property
    def is_picture(self) -> bool:
        """Whether frames hold a picture, in parquet or in a video."""
        return self.dtype in ("image", "video")

    @property
    def is_depth_map(self) -> bool:
        """Whether a picture holds distances rather than colours."""
        info = self.info or {}
        return bool(info.get("is_depth_map") or info.get("video.is_depth_map"))

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width in pixels; some data sets put the channels first in `shape`."""
        height, width = self.shape[:2] if self.shape[-1] == 3 else self.shape[1:]
        return height, width

    @property
    def statistics_shape(self) -> tuple[int, ...]:
        """Axes of one statistic: the frame's own, or one number a channel for pictures."""
        return (3, 1, 1) if self.is_picture else self.shape

    def to_json(self) -> dict[str, Any]:
        """Return the feature as it stands in info.json."""
        document: dict[str, Any] = {
            "dtype": self.dtype,
            "shape": list(self.shape),
            "names": self.names,
        }
        return document if self.info is None else {**document, "info": dict(self.info)}


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
        max_data_bytes: Size that an episode does not bring a data file to, but starts another.
        max_video_bytes: The same of a video file.
        data_path: Template of data files, relative to the root.
        video_path: Template of video files, relative to the root; None without videos.
    """

    fps: int
    features: Mapping[str, Feature]
    robot_type: str | None
    total_episodes: int = 0
    total_frames: int = 0
    total_tasks: int = 0
    chunks_size: int = 1000
    max_data_bytes: int = DATA_FILES_MB * _BYTES_A_MB
    max_video_bytes: int = VIDEO_FILES_MB * _BYTES_A_MB
    data_path: str = DATA_PATH
    video_path: str | None = None

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


def has_room(written_bytes: int, written_frames: int, frames: int, max_bytes: float) -> bool:
    """Tell whether a file stays below its limit when it holds `frames` in all.

    As far as the mean frame in it tells; an empty file has room. Source: lerobot's own rule.
    """
    return not written_frames or written_bytes / written_frames * frames < max_bytes


def numbered_file(template: str, chunk: int, file: int) -> str:
    """Return the name of a chunk's file, for the templates of this module."""
    return template.format(chunk_index=chunk, file_index=file)


def new_info_document(
    features: Mapping[str, Feature], fps: int, robot_type: str | None
) -> dict[str, Any]:
    """Return info.json of a data set without episodes, key by key as lerobot writes it."""
    has_video = any(feature.dtype == "video" for feature in features.values())
    everything = {**features, **STANDARD_FEATURES}
    return {
        "codebase_version": CODEBASE_VERSION,
        "fps": fps,
        "features": {key: feature.to_json() for key, feature in everything.items()},
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": 1000,
        "data_files_size_in_mb": DATA_FILES_MB,
        "video_files_size_in_mb": VIDEO_FILES_MB,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if has_video else None,
        "robot_type": robot_type,
        "splits": {},
    }


def parse_info(document: Mapping[str, Any], path: Path) -> DatasetInfo:
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
        info = DatasetInfo(
            fps=_whole(document["fps"]),
            features={key: _parse_feature(value) for key, value in document["features"].items()},
            robot_type=document.get("robot_type"),
            total_episodes=int(document["total_episodes"]),
            total_frames=int(document["total_frames"]),
            total_tasks=int(document["total_tasks"]),
            chunks_size=int(document["chunks_size"]),
            max_data_bytes=_bytes(document.get("data_files_size_in_mb", DATA_FILES_MB)),
            max_video_bytes=_bytes(document.get("video_files_size_in_mb", VIDEO_FILES_MB)),
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
    return info


def _whole(number: float) -> int:
    if number != int(number) or number < 1:
        raise ValueError(f"fps {number}, not a whole number of frames per second")
    return int(number)


def _bytes(size_mb: float) -> int:
    if not 0 < size_mb < math.inf:
        raise ValueError(f"a file size of {size_mb} MB")
    return math.ceil(size_mb * _BYTES_A_MB)


def _parse_feature(document: Mapping[str, Any]) -> Feature:
    feature = Feature(
        dtype=str(document["dtype"]),
        shape=tuple(int(size) for size in document["shape"]),
        names=document.get("names"),
        info=document.get("info"),
    )
    if feature.is_picture and len(feature.shape) != 3:
        raise ValueError(f"a picture of shape {feature.shape}")
    return feature


def _version_message(version: object, path: Path) -> str:
    found = f"{path} must say codebase_version {CODEBASE_VERSION!r}, got {version!r}"
    if version == "v2.1":
        return f"{found}; convert a copy with `python -m {CONVERTER} --repo-id=... --root=...`"
    return f"{found}; convert the data set with the lerobot release that reads this version"


def read_json(path: Path) -> dict[str, Any]:
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


def huggingface_metadata(features: Mapping[str, Feature]) -> str:
    """Return the `huggingface` schema metadata of data files, from which `datasets` decodes.

    The cache fingerprint that `datasets` adds is left out: it is optional and says nothing.
    """
    columns = {
        key: _huggingface_feature(feature)
        for key, feature in features.items()
        if feature.dtype != "video"
    }
    return json.dumps({"info": {"features": columns}})


def _huggingface_feature(feature: Feature) -> dict[str, Any]:
    if feature.dtype == "image":
        return {"_type": "Image"}
    value = {"dtype": feature.dtype, "_type": "Value"}
    if feature.shape == (1,):
        return value
    if len(feature.shape) == 1:
        return {"feature": value, "length": feature.shape[0], "_type": "List"}
    axes = len(feature.shape)
    return {"shape": list(feature.shape), "dtype": feature.dtype, "_type": f"Array{axes}D"}


def pandas_metadata(pyarrow_version: str) -> str:
    """Return the `pandas` schema metadata of tasks.parquet: pandas then shows `task` as index."""
    encoding = {"encoding": "UTF-8"}
    document: dict[str, Any] = {
        "index_columns": ["task"],
        "column_indexes": [_pandas_column(None, "unicode", "object", encoding)],
        "columns": [
            _pandas_column("task_index", "int64", "int64", None),
            _pandas_column("task", "unicode", "object", None),
        ],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pyarrow_version},
        # The pandas whose form this is; pandas itself is not needed to write it.
        "pandas_version": "2.3.3",
    }
    return json.dumps(document)


def _pandas_column(
    name: str | None, pandas_type: str, numpy_type: str, metadata: Mapping[str, str] | None
) -> dict[str, Any]:
    return {
        "name": name,
        "field_name": name,
        "pandas_type": pandas_type,
        "numpy_type": numpy_type,
        "metadata": metadata,
    }


def check_new_features(features: Mapping[str, Feature]) -> None:
    """Raise DatasetError unless the features can be written.

    Numbers have up to five axes, pictures are (h, w, 3), videos have even sides (yuv420p halves
    them), and the standard features are left to the writer.
    """
    for key, feature in features.items():
        if key in STANDARD_FEATURES:
            raise DatasetError(f"features must leave {key!r} to the writer; remove it")
        if feature.is_picture:
            _check_picture(key, feature)
        elif not feature.is_numeric:
            known = sorted(NUMERIC_DTYPES | {"image", "video"})
            raise DatasetError(f"{key}: dtype must be one of {known}, got {feature.dtype!r}")
        elif not 1 <= len(feature.shape) <= 5 or math.prod(feature.shape) == 0:
            raise DatasetError(
                f"{key}: shape must have 1 to 5 axes, none empty, got {feature.shape}"
            )


def _check_picture(key: str, feature: Feature) -> None:
    if len(feature.shape) != 3 or feature.shape[-1] != 3 or min(feature.shape) < 1:
        raise DatasetError(f"{key}: shape must be (height, width, 3), got {feature.shape}")
    if feature.dtype == "video" and any(size % 2 for size in feature.picture_size):
        height, width = feature.picture_size
        raise DatasetError(
            f"{key}: a video's height and width must be even, got {height} x {width}; "
            "crop by one pixel, or use dtype 'image'"
        )
