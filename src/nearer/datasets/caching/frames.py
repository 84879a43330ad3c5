"""The images of a data set, decoded once: any rows, in any order, at the speed of memory."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64, UInt8

from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.cpu import num_cores
from nearer.core.errors import DatasetError
from nearer.datasets.caching.arrays import CachedArray, write_header
from nearer.datasets.lerobot.cameras import camera_key
from nearer.datasets.lerobot.reader import Dataset
from nearer.runs.files import StagedFiles

BLOCK_BYTES = 8 << 20
"""Decoded at once by each thread: enough that opening a file does not count, little in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCache:
    """The images of one camera.

    Attributes:
        images: RGB in [0, 255]; their memory is a file, so a data set may be larger than memory.
    """

    images: UInt8[Array, "frames h w 3"]

    def rows(self, index: Int[Array, "rows"]) -> UInt8[Array, "rows h w 3"]:
        """Return these frames' images, in memory of their own.

        Raises:
            DatasetError: A row that the data set does not have.
        """
        if len(index) and not 0 <= index.min() <= index.max() < len(self.images):
            raise DatasetError(
                f"index must lie in [0, {len(self.images)}), got {index.min()} to {index.max()}"
            )
        return np.take(self.images, index, axis=0)


def open_frames(
    dataset: Dataset,
    camera: str,
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
    rows: Int64[Array, "rows"] | None = None,
) -> FrameCache:
    """Return a camera's images, decoded now unless they have been before.

    Args:
        dataset: What to decode; when one of its files changes, it is decoded anew.
        camera: Name of the camera, such as "top".
        cache: Folder of decoded data sets; None for ~/.cache/nearer.
        on_progress: Sees the progress of decoding.
        rows: Frames to decode, which come in this order; fastest from first to last. None: all.

    Raises:
        DatasetError: No such camera, a damaged file, or no room on the disk.
    """
    key = camera_key(dataset, camera)
    decoded = np.arange(dataset.info.total_frames) if rows is None else rows
    array = _array(dataset, key, rows)

    def decode(path: Path) -> None:
        _decode(dataset, key, decoded, path, array.shape, on_progress)

    return FrameCache(images=array.open(dataset, cache, decode))


def drop_frames(
    dataset: Dataset, camera: str, cache: Path | None, rows: Int64[Array, "rows"]
) -> None:
    """Delete what `open_frames` decoded of these rows; who has it open keeps it."""
    _array(dataset, camera_key(dataset, camera), rows).delete(dataset, cache)


def _array(dataset: Dataset, key: str, rows: Int64[Array, "rows"] | None) -> CachedArray:
    name = "frames-" + dataset.info.stored_key(key).replace("/", "_")
    if rows is not None:
        name += "-" + hashlib.blake2b(rows.astype(np.int64).tobytes(), digest_size=16).hexdigest()
    total = dataset.info.total_frames if rows is None else len(rows)
    shape = (total, *dataset.info.features[key].image_size, 3)
    return CachedArray(name=name, shape=shape, dtype="uint8", mode="r")


def _decode(
    dataset: Dataset,
    key: str,
    rows: Int64[Array, "rows"],
    path: Path,
    shape: tuple[int, ...],
    on_progress: ProgressCallback,
) -> None:
    """Write a camera's images of these rows as one .npy file."""
    total, image_bytes = shape[0], int(np.prod(shape[1:]))
    free = shutil.disk_usage(path.parent).free
    if free < total * image_bytes:
        raise DatasetError(
            f"{path.parent} must have {total * image_bytes / 1e9:.1f} GB free for the decoded "
            f"images of {dataset.root}, got {free / 1e9:.1f} GB; free some space or choose "
            "another folder with --cache"
        )
    with StagedFiles() as staged:
        # The pool is left first: no thread writes to a file that is closed.
        with staged.open(path, replace=True) as handle, ThreadPoolExecutor(num_cores()) as pool:
            start = write_header(handle, shape, "uint8")

            def decode(places: Int[Array, "places"]) -> int:
                images = dataset.frames(key, rows[places])
                _write_at(handle.fileno(), images, start + int(places[0]) * image_bytes)
                return int(places[-1]) + 1

            on_progress(Progress(stage="decoding images", done=0, total=total))
            for done in pool.map(decode, _blocks(total, image_bytes)):
                on_progress(Progress(stage="decoding images", done=done, total=total))
        staged.commit()


def _blocks(total: int, image_bytes: int) -> Iterator[Int[Array, "places"]]:
    size = max(1, BLOCK_BYTES // image_bytes)
    for start in range(0, total, size):
        yield np.arange(start, min(start + size, total))


def _write_at(descriptor: int, images: UInt8[Array, "rows h w 3"], offset: int) -> None:
    view = images.reshape(-1).data
    while len(view):
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
