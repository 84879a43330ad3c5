"""Arrays that are computed from a data set once, and kept under its identity.

    <cache>/<identity>/dataset.json                   the data set's folder, for people
    <cache>/<identity>/frames-<camera>.npy            frames.py
    <cache>/<identity>/features-<encoder>.npy         encodings.py
    <cache>/<identity>/vision-encoder-<settings>.npy  vision_encoder_training.py

The cache is ~/.cache/nearer (or $XDG_CACHE_HOME/nearer) and not a folder of the data set: a data
set may be read-only, is shared between machines and pushed to the hub whole, while these arrays
are 20 times its size, made for one machine and safe to delete. When a data set has changed, those
of its earlier state are deleted.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.identity import dataset_identity
from nearer.datasets.lerobot.reader import Dataset
from nearer.runs.files import StagedFiles, whole_file

_DATASET = "dataset.json"


def default_cache() -> Path:
    """Return the folder of arrays where none is given: ~/.cache/nearer."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedArray:
    """An array of the cache; one with this name and another shape or dtype is made anew.

    Attributes:
        name: of its file, unique to what it is made of beside the data set.
        mode: "r" cannot be written to, and may be larger than memory; with "c" what is written
            stays in this process, so that torch takes it as a tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    mode: Literal["r", "c"]

    def open(self, dataset: Dataset, cache: Path | None, make: Callable[[Path], None]) -> Array:
        """Return the array, whose memory is the file: only what is used is read.

        Two processes that want the same array do not both make it: the second one waits.

        Args:
            dataset: What it is made of.
            cache: Folder of all arrays; None for `default_cache`.
            make: Writes the .npy file at a path, whole or not at all; called if there is none.

        Raises:
            DatasetError: The cache cannot be written, or the disk is full.
        """
        folder = (cache or default_cache()) / dataset_identity(dataset)
        path = folder / f"{self.name}.npy"
        cached = self._read(path)
        if cached is not None:
            return cached
        with cache_errors_as_sentences(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / f".{self.name}.lock"):  # its own, since arrays build on arrays
                if self._read(path) is None:
                    _claim(folder, dataset.root.resolve())
                    make(path)
        array = self._read(path)
        assert array is not None, f"{path} must be {self.dtype} of shape {self.shape}"
        return array

    def delete(self, dataset: Dataset, cache: Path | None) -> None:
        """Delete the array, if it is there; who has it open keeps it."""
        folder = (cache or default_cache()) / dataset_identity(dataset)
        (folder / f"{self.name}.npy").unlink(missing_ok=True)

    def _read(self, path: Path) -> Array | None:
        try:
            values: Array = np.lib.format.open_memmap(path, mode=self.mode)
        except (OSError, ValueError):
            return None  # missing, or not what was written there: made anew
        return values if values.shape == self.shape and values.dtype == self.dtype else None


def _claim(folder: Path, root: Path) -> None:
    """Write down whose arrays these are; delete those of earlier states of the data set there."""
    document = json.dumps({"dataset": str(root)})
    for path in folder.parent.glob(f"*/{_DATASET}"):
        if path.parent != folder and path.read_text(encoding="utf-8") == document:
            shutil.rmtree(path.parent, ignore_errors=True)
    with whole_file(folder / _DATASET) as temporary:
        temporary.write_text(document, encoding="utf-8")


def write_header(handle: BinaryIO, shape: tuple[int, ...], dtype: str) -> int:
    """Write the head of a .npy file and return its length in bytes."""
    fields = {"shape": shape, "fortran_order": False, "descr": np.dtype(dtype).str}
    np.lib.format.write_array_header_1_0(handle, fields)
    handle.flush()
    return handle.tell()


def write_array(path: Path, values: Array) -> None:
    """Write a .npy file, whole or not at all."""
    with StagedFiles() as staged:
        with staged.open(path, replace=True) as handle:
            np.save(handle, values, allow_pickle=False)
        staged.commit()


@contextmanager
def cache_errors_as_sentences(folder: Path) -> Generator[None, None, None]:
    """Turn a failure of the disk into a DatasetError that says what to do."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{folder} must be on a disk that can be written and has room, got "
            f"{error.strerror or error}; nothing is lost, free some space or choose another "
            "folder with --cache"
        ) from error


@contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    """Let one process at a time into the block; a process that dies lets the next one in."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
