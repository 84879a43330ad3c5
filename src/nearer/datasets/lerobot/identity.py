"""Hashes of a data set: of its files on this machine, and of its contents on any machine."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nearer.datasets.lerobot.episodes_table import EPISODES_FOLDER
from nearer.datasets.lerobot.reader import Dataset
from nearer.datasets.lerobot.schema import INFO_PATH, TASKS_PATH
from nearer.datasets.lerobot.stored_files import stored_file
from nearer.datasets.lerobot.version_2 import EPISODES_LIST, TASKS_LIST


def dataset_identity(dataset: Dataset) -> str:
    """Return a name that changes with the data set's frames, and not with its place.

    A hash of everything in meta/ that says which frame is which, and of names, sizes and times of
    change of the files that hold numbers and images: reading those would take as long as
    decoding them.
    """
    root = dataset.root
    digest = hashlib.blake2b(digest_size=16)
    tables = sorted((root / EPISODES_FOLDER).rglob("*.parquet"))
    lists = [INFO_PATH, TASKS_PATH, EPISODES_LIST, TASKS_LIST]
    for path in [*(root / name for name in lists), *tables]:
        if path.is_file():
            digest.update(stored_file(root, path.relative_to(root).as_posix()).read_bytes())
    for name, path in _frame_files(dataset):
        status = path.stat()
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def contents_hash(dataset: Dataset) -> str:
    """Return the SHA-256 of a data set's numbers and instructions, and of its files' sizes.

    Unlike `dataset_identity` it outlives a copy to another machine. Images are not read; who
    records, drops or encodes some anew changes the size of their file.
    """
    digest = hashlib.sha256()
    for name in sorted(dataset.columns):
        values = dataset.columns[name]
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(json.dumps([dataset.info.fps, *dataset.tasks]).encode())
    for name, path in _frame_files(dataset):  # numbers' files may hold images as well
        digest.update(f"{name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def _frame_files(dataset: Dataset) -> Iterator[tuple[str, Path]]:
    """Give the files with numbers and images, by their names in the data set."""
    start = "episode_" if dataset.info.has_file_per_episode else "file-"
    for folder in ("data", "videos"):
        for path in sorted((dataset.root / folder).rglob(f"{start}*")):
            yield path.relative_to(dataset.root).as_posix(), path
