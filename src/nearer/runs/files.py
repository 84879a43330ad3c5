"""Files that appear together or not at all, even when the process is killed in between."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from nearer.core.errors import DatasetError

TEMPORARY_SUFFIX = ".tmp"


class StagedFiles:
    """Write files under temporary names; `commit` renames them in the order they were opened.

    The last one is the commit point: until its rename a reader that starts from it sees the
    earlier state, and leaving the `with` block removes everything that was staged. All the bytes
    are on disk before the first rename, so a full disk is met while nothing has changed yet.
    """

    def __init__(self) -> None:
        """Start with nothing staged."""
        self._new: list[Path] = []
        self._replaced: list[Path] = []
        self._renaming = False

    def __enter__(self) -> "StagedFiles":
        """Return the staging area itself."""
        return self

    @contextmanager
    def open(self, path: Path, *, replace: bool = False) -> Generator[BinaryIO, None, None]:
        """Open a file for writing; it is flushed to disk when the block ends.

        Args:
            path: Its final name; missing folders are made.
            replace: Whether the file may exist already. Files that may are renamed after all
                new ones.

        Raises:
            DatasetError: The file exists and `replace` is false.
            OSError: Writing failed.
        """
        if not replace and path.exists():
            raise DatasetError(
                f"{path} must not exist yet, got a file of another writer; "
                "open the data set again with DatasetWriter.resume"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        (self._replaced if replace else self._new).append(path)
        with _temporary(path).open("w+b") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())

    def commit(self) -> None:
        """Give every file its final name, the last one of `replace` after all others are safe.

        Raises:
            OSError: A rename failed.
        """
        paths = [*self._new, *self._replaced]
        self._renaming = True
        for path in paths[:-1]:
            os.replace(_temporary(path), path)
        for folder in sorted({path.parent for path in paths}):
            sync_folder(folder)
        os.replace(_temporary(paths[-1]), paths[-1])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make the commit durable, or remove what was staged if there was none."""
        paths = [*self._new, *self._replaced]
        # Asked of the disk, not of a flag: an interrupt may hit between the rename and the flag.
        if self._renaming and not _temporary(paths[-1]).exists():
            sync_folder(paths[-1].parent)
            return
        for path in self._new:
            path.unlink(missing_ok=True)
        for path in paths:
            _temporary(path).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY_SUFFIX)
