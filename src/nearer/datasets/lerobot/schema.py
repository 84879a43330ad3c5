"""The form of a LeRobotDataset: meta/info.json and names of files; feature.py has the columns.

Version 3.0 is read and written. Versions 2.0 and 2.1 are read as well: they keep a file an episode,
which is a file of 3.0 with one episode in it, and lists in JSON lines in place of tables.
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
from nearer.datasets.lerobot.feature import STANDARD_FEATURES, Feature
from nearer.datasets.lerobot.info_values import count, rate, size_mb, template
from nearer.datasets.lerobot.stored_files import stored_file

CODEBASE_VERSION = "v3.0"
OLDER_VERSIONS = ("v2.0", "v2.1")
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
PROGRESS_PATH = "nearer_progress/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

DATA_FILES_MB, VIDEO_FILES_MB = 100, 200
"""Sizes at which a new file is started, where info.json names none; lerobot's own."""

CHUNKS_SIZE = 1000
"""Files per chunk folder, where info.json is silent; lerobot's own."""

_BYTES_A_MB = 1024**2  # lerobot's MB

_MAX_INFO_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """What meta/info.json says: the totals in it are what counts as committed.

    Args:
        fps: Frames per second, in Hz; an int where they are whole.
        version: Of the format.
        stored_keys: What the files call features that have been renamed, by their new key.
        chunks_size: Files per chunk folder.
        data_files_size_mb: Size that an episode does not bring a data file to, but starts another.
        video_files_size_mb: The same of a video file.
        data_path: Template of data files, relative to the root.
        video_path: Template of video files, relative to the root; None without videos.
        other: Keys of lerobot's that mean nothing here, as JSON; written back as they were read.
    """

    fps: float
    features: Mapping[str, Feature]
    robot_type: str | None
    version: str = CODEBASE_VERSION
    stored_keys: Mapping[str, str] = field(default_factory=dict[str, str])
    total_episodes: int = 0
    total_frames: int = 0
    total_tasks: int = 0
    chunks_size: int = CHUNKS_SIZE
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

    @property
    def has_file_per_episode(self) -> bool:
        """Whether the format is the older one; a file's number is its episode's then."""
        return self.version in OLDER_VERSIONS

    def stored_key(self, key: str) -> str:
        """Return what the files call a feature."""
        return self.stored_keys.get(key, key)

    def data_file(self, chunk: int, file: int) -> str:
        """Return the name of a data file, relative to the root."""
        return self.data_path.format(**_numbers(chunk, file), video_key="")

    def video_file(self, key: str, chunk: int, file: int) -> str:
        """Return the name of a video file, relative to the root."""
        video_path = self.video_path or VIDEO_PATH
        return video_path.format(**_numbers(chunk, file), video_key=self.stored_key(key))

    def renamed(self, new_keys: Mapping[str, str], root: Path) -> "DatasetInfo":
        """Return the same with other keys for some features.

        Args:
            new_keys: New key of a feature, by the key that it has in the files.
            root: The data set's folder, for the messages.

        Raises:
            DatasetError: No such feature, or another one has the new key.
        """
        unknown = [key for key in new_keys if key not in self.features]
        if unknown:
            raise DatasetError(
                f"--rename must name features of {root}, got {unknown[0]!r} where there are "
                f"{sorted(self.features)}; correct it, or leave it out"
            )
        standard = [key for key in new_keys if key in STANDARD_FEATURES]
        if any(new_keys[key] != key for key in standard):
            raise DatasetError(
                f"--rename must leave {standard[0]!r} as it is, which every data set has, got "
                f"{new_keys[standard[0]]!r} for it; leave it out"
            )
        taken = [new for new in new_keys.values() if new in self.features.keys() - new_keys.keys()]
        if taken:
            raise DatasetError(
                f"--rename must give new names, got {taken[0]!r}, which is another feature of "
                f"{root}; rename that one as well, or choose another name"
            )
        features = {new_keys.get(key, key): feature for key, feature in self.features.items()}
        stored = {new: old for old, new in new_keys.items() if new != old}
        return replace(self, features=features, stored_keys=stored)

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
        if version != CODEBASE_VERSION and version not in OLDER_VERSIONS:
            raise DatasetError(_version_message(version, path))
        video_path = document.get("video_path")
        try:
            info = cls(
                version=version,
                fps=rate(document["fps"]),
                features={
                    key: Feature.from_json(value) for key, value in document["features"].items()
                },
                robot_type=document.get("robot_type"),
                total_episodes=count(document, "total_episodes"),
                total_frames=count(document, "total_frames"),
                total_tasks=count(document, "total_tasks"),
                chunks_size=count({"chunks_size": CHUNKS_SIZE, **document}, "chunks_size", least=1),
                data_files_size_mb=size_mb(document.get("data_files_size_in_mb", DATA_FILES_MB)),
                video_files_size_mb=size_mb(document.get("video_files_size_in_mb", VIDEO_FILES_MB)),
                data_path=template(document["data_path"]),
                video_path=None if video_path is None else template(video_path),
            )
        except KeyError as error:
            raise DatasetError(f"{path} must have the key {error}; restore the file") from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            message = f"{path} must have the form of LeRobotDataset {version}, got: {error}"
            raise DatasetError(f"{message}; restore the file") from error
        missing = STANDARD_FEATURES.keys() - info.features.keys()
        if missing:
            raise DatasetError(f"{path} must have the feature {min(missing)!r}; restore the file")
        for key, standard in STANDARD_FEATURES.items():
            feature = info.features[key]
            if not feature.is_numeric or feature.shape not in ((), (1,)):
                raise DatasetError(
                    f"{path} must have the feature {key!r} as {standard.dtype} of shape (1,), got "
                    f"{feature.dtype!r} of shape {feature.shape}; restore the file"
                )
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
    path = stored_file(root, INFO_PATH, _MAX_INFO_BYTES)
    if not path.exists():
        raise DatasetError(
            f"{root} must hold a LeRobotDataset v3.0, got no file {INFO_PATH} in it; "
            "give the folder above meta/, or a hub id such as user/name"
        )
    return DatasetInfo.from_json(_read_json(path), path)


def _numbers(chunk: int, file: int) -> dict[str, int]:
    """Return the places of a template that hold numbers, as either version calls them."""
    return {
        "chunk_index": chunk,
        "file_index": file,
        "episode_chunk": chunk,
        "episode_index": file,
    }


def _version_message(version: object, path: Path) -> str:
    read = [CODEBASE_VERSION, *OLDER_VERSIONS]
    return (
        f"{path} must say a codebase_version of {read}, got {version!r}; convert a copy of the "
        "data set with the lerobot release that reads this version"
    )


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
