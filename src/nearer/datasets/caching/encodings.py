"""What a frozen vision encoder returns for a data set's frames: computed once, kept on disk.

A frozen vision encoder always encodes a frame in the same way. Encodings are kept under the
identities of data set and encoder, so another data set, or other weights, are encoded anew.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Num, UInt8

from nearer.algorithm.demonstrations import decision_rows, frame_rows
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.errors import DatasetError
from nearer.core.vision import ComparingVisionEncoder, StackingVisionEncoder, VisionEncoder
from nearer.datasets.caching.arrays import CachedArray
from nearer.datasets.caching.parts import write_in_parts
from nearer.datasets.lerobot.cameras import camera_key, cameras_of, check_has_camera
from nearer.datasets.lerobot.reader import Dataset

FRAMES_PER_PART = 2048
"""Durable once encoded: a kill loses less than these. Some 20 s of a small tower on one core."""

FRAMES_PER_CALL = 128
"""Decoded and encoded at once: large enough for a batch, small in memory."""

_MAX_CALL_BYTES = 2**30  # of images that are decoded at once

Images = Mapping[str, UInt8[Array, "frames h w c"]]
"""Images of the same frames, by camera."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingTask:
    """Which frames are encoded, and how.

    Attributes:
        rows: of the data set's frames, in the order of the result.
        width: numbers a frame.
        dtype: of the result.
        encode: returns the encodings of `rows[part]`, given their images and `part`.
    """

    rows: Int64[Array, "frames"]
    width: int
    dtype: str
    encode: Callable[[Images, slice], Num[Array, "rows encoding"]]


def open_encodings(
    dataset: Dataset,
    vision_encoder: VisionEncoder,
    episodes: Int64[Array, "episodes"],
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
    every: int = 1,
) -> Num[Array, "frames encoding"]:
    """Return the encoding of every frame, given its episode's instruction.

    Computed now unless it has been before; continues where it was interrupted. Images are decoded
    on the way, which takes a small part of the time and no room on the disk.

    Args:
        dataset: Whose frames; the vision encoder is given all its colour cameras.
        vision_encoder: Encodes the images.
        episodes: Rows of the episodes that are encoded; their frames come in this order.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        on_progress: Sees the progress of encoding.
        every: Control steps from one frame to the next that is encoded: see `decision_rows`.

    Raises:
        DatasetError: No camera, a damaged file, no room on the disk, or encodings that are not
            finite.
    """
    rows = episode_rows(dataset, episodes, every)
    instruction = {int(row): dataset.task_of_episode(int(row)) for row in episodes}
    episode_of_frame: list[int] = dataset.columns["episode_index"][rows].tolist()
    instructions = [instruction[episode] for episode in episode_of_frame]

    def encode(images: Images, part: slice) -> Num[Array, "rows encoding"]:
        return vision_encoder.encode(images, instructions[part])

    stacking = isinstance(vision_encoder, StackingVisionEncoder)
    task = EncodingTask(
        rows=rows,
        width=vision_encoder.encoding_width,
        dtype=vision_encoder.encoding_dtype if stacking else "float32",
        encode=encode,
    )
    thinned = f" every {every}" if every > 1 else ""
    name = "features-" + rows_hash(vision_encoder.identity + dataset.view + thinned, episodes)
    return cached_encodings(dataset, name, task, cache, on_progress)


def open_encodings_for_each(
    dataset: Dataset,
    vision_encoder: ComparingVisionEncoder,
    rows: Int64[Array, "frames"],
    candidates: Sequence[Sequence[str]],
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> Float32[Array, "frames candidates encoding"]:
    """Return the encoding of frames, given each of their candidate instructions.

    Args:
        dataset: Whose frames.
        vision_encoder: Encodes the images.
        rows: Of the frames.
        candidates: Instructions, the same number a frame.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        on_progress: Sees the progress of encoding.

    Raises:
        DatasetError: As `open_encodings` raises it.
    """
    shape = (len(rows), len(candidates[0]), vision_encoder.encoding_width)
    width = shape[1] * shape[2]

    def encode(images: Images, part: slice) -> Float32[Array, "rows encoding"]:
        return vision_encoder.encode_for_each(images, candidates[part]).reshape(-1, width)

    task = EncodingTask(rows=rows, width=width, dtype="float32", encode=encode)
    name = "candidates-" + rows_hash(f"{vision_encoder.identity} {candidates}{dataset.view}", rows)
    return cached_encodings(dataset, name, task, cache, on_progress).reshape(shape)


def episode_rows(
    dataset: Dataset, episodes: Int64[Array, "episodes"], every: int = 1
) -> Int64[Array, "frames"]:
    """Return the rows of these episodes' frames, in their order.

    Args:
        dataset: Whose frames.
        episodes: Rows of the episodes.
        every: Control steps from one frame to the next: see `decision_rows`; 1 for all frames.
    """
    lengths = dataset.episode_lengths[episodes]
    rows = frame_rows(dataset.episode_starts[episodes], lengths)
    return rows if every == 1 else rows[decision_rows(lengths, every)[0]]


def rows_hash(identity: str, rows: Int64[Array, "rows"]) -> str:
    """Return a name for what something with this identity makes of some episodes or frames."""
    digest = hashlib.blake2b(identity.encode(), digest_size=16)
    digest.update(rows.astype(np.int64).tobytes())
    return digest.hexdigest()


def cached_encodings(
    dataset: Dataset,
    name: str,
    task: EncodingTask,
    cache: Path | None,
    on_progress: ProgressCallback,
) -> Num[Array, "frames encoding"]:
    """Return encodings from the cache, computed now unless they are there; see `open_encodings`.

    Args:
        dataset: Whose frames.
        name: Of the cache's file, unique to what is computed.
        task: What to compute.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        on_progress: Sees the progress of encoding.
    """
    check_has_camera(dataset)
    shape = (len(task.rows), task.width)

    def make(path: Path) -> None:
        def encode(part: slice) -> Num[Array, "rows encoding"]:
            return _encode_part(dataset, task, part, on_progress)

        write_in_parts(path, shape, task.dtype, FRAMES_PER_PART, encode)
        on_progress(Progress(stage="encoding images", done=shape[0], total=shape[0]))

    array = CachedArray(name=name, shape=shape, dtype=task.dtype, mode="c")
    return array.open(dataset, cache, make)


def _encode_part(
    dataset: Dataset, task: EncodingTask, part: slice, on_progress: ProgressCallback
) -> Num[Array, "rows encoding"]:
    """Decode and encode some frames, a bounded number at a time."""
    total = len(task.rows)
    frame_bytes = sum(3 * camera.height * camera.width for camera in cameras_of(dataset))
    size = max(1, min(FRAMES_PER_CALL, _MAX_CALL_BYTES // frame_bytes))
    encodings: list[Num[Array, "rows encoding"]] = []
    for first in range(part.start, part.stop, size):
        on_progress(Progress(stage="encoding images", done=first, total=total))
        encodings.append(_encode(dataset, task, slice(first, min(first + size, part.stop))))
    return np.concatenate(encodings)


def _encode(dataset: Dataset, task: EncodingTask, part: slice) -> Num[Array, "rows encoding"]:
    rows = task.rows[part]
    images = {
        camera.name: dataset.frames(camera_key(dataset, camera.name), rows)
        for camera in cameras_of(dataset)
    }
    encodings = np.asarray(task.encode(images, part), task.dtype)
    shape = (len(rows), task.width)
    assert encodings.shape == shape, f"encodings must be of shape {shape}, got {encodings.shape}"
    not_finite = np.flatnonzero(~np.isfinite(encodings).all(axis=1))
    if len(not_finite):
        raise DatasetError(
            f"the features of frame {rows[not_finite[0]]} of {dataset.root} must be finite, got "
            "NaN or infinity; the model's weights are damaged, restore its checkpoint or pretrain "
            "again"
        )
    return encodings
