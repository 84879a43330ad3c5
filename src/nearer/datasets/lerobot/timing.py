"""Which image of a video belongs to a frame: frames are counted, and timestamps must agree.

    frame of the video = frame at which the episode starts + frame of the episode
    time               = frame of the video / fps

An episode starts where the one before it ends; `from_timestamp` may be half a frame off. Where
episodes have been deleted it alone tells how many frames of theirs are still in the video.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.schema import DatasetInfo

TOLERANCE_FRAMES = 0.5

_LARGEST_FILE_NUMBER = 2**31
_COLUMNS = ("chunk_index", "file_index", "from_timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPlaces:
    """Where a camera's episodes lie.

    Args:
        files: Chunk and file number of each episode's mp4.
        first_frames: Frame of its file with which each episode starts.
    """

    files: Int64[Array, "episodes 2"]
    first_frames: Int64[Array, "episodes"]


def video_places(
    root: Path, info: DatasetInfo, key: str, table: Mapping[str, Array]
) -> VideoPlaces:
    """Return where a camera's episodes lie in its videos.

    Args:
        root: The data set's folder, for the messages.
        info: What it says of itself.
        key: Of the camera's feature.
        table: The episodes table.

    Raises:
        DatasetError: An episode does not start where the one before it ends, or the table says
            nothing of this camera.
    """
    folder = f"videos/{info.stored_key(key)}"
    if any(f"{folder}/{part}" not in table for part in _COLUMNS):
        raise DatasetError(
            f"the episodes table of {root} must have {folder}/...; restore its files"
        )
    files = file_places(root, table, folder)
    starts = np.asarray(table[f"{folder}/from_timestamp"], dtype=np.float64) * info.fps
    ends: dict[tuple[int, int], int] = {}
    first_frames: list[int] = []
    before = -1
    places: list[tuple[int, int]] = [(chunk, file) for chunk, file in files.tolist()]
    for place, number, start, length in zip(
        places,
        table["episode_index"].tolist(),
        starts.tolist(),
        table["length"].tolist(),
        strict=True,
    ):
        end = ends.get(place, 0)
        deleted = number != before + 1 and np.isfinite(start)
        first = max(end, round(start)) if deleted else end
        if not abs(start - first) <= TOLERANCE_FRAMES:
            raise DatasetError(
                f"episode {number} of {root} must start at {first / info.fps:.3f} s of its video "
                f"of {key}, frame {first} at {info.fps} fps, got from_timestamp "
                f"{start / info.fps:.3f} s: which images are its own is not known; correct "
                f"from_timestamp in meta/episodes, or fps in meta/info.json"
            )
        first_frames.append(first)
        ends[place] = first + length
        before = number
    return VideoPlaces(files=files, first_frames=np.array(first_frames, dtype=np.int64))


def file_places(root: Path, table: Mapping[str, Array], folder: str) -> Int64[Array, "episodes 2"]:
    """Return chunk and file number of each episode's file in a folder.

    Raises:
        DatasetError: Numbers that no file has.
    """
    parts = [table[f"{folder}/{part}"] for part in ("chunk_index", "file_index")]
    for values in parts:
        counts = values.dtype.kind in "iu" and values.ndim == 1
        if not counts or (values < 0).any() or (values > _LARGEST_FILE_NUMBER).any():
            raise DatasetError(
                f"the episodes table of {root} must have whole numbers of 0 or more as "
                f"{folder}/chunk_index and file_index, got others; restore its files"
            )
    return np.stack([values.astype(np.int64) for values in parts], axis=1)


def check_timestamps(
    root: Path,
    info: DatasetInfo,
    cameras: str,
    timestamps: Shaped[Array, "frames"],
    frame_of_episode: Int64[Array, "frames"],
    episode_of_frame: Int64[Array, "frames"],
) -> None:
    """Raise DatasetError unless timestamps count frames, to half a frame.

    Args:
        root: The data set's folder, for the messages.
        info: What it says of itself.
        cameras: Whose images the timestamps find, for the messages.
        timestamps: Of all frames, in seconds from the start of their episode.
        frame_of_episode: Number of each frame in its episode.
        episode_of_frame: `episode_index` of each frame.
    """
    off = np.abs(timestamps.astype(np.float64) * info.fps - frame_of_episode)
    wrong = np.flatnonzero(~(off <= TOLERANCE_FRAMES))
    if len(wrong):
        frame = wrong[0]
        due = frame_of_episode[frame] / info.fps
        raise DatasetError(
            f"frame {frame_of_episode[frame]} of episode {episode_of_frame[frame]} of {root} must "
            f"have the timestamp {due:.3f} s, as {info.fps} fps make it, got "
            f"{timestamps[frame]:.3f} s: which image of {cameras} is its own is not known; correct "
            "the timestamps, or fps in meta/info.json"
        )
