"""The one place that writes files whole or not at all, even when the process is killed in between.

    write_text, write_bytes, write_json, write_lines    one file
    replace_bytes                                       one that need not survive a power cut
    whole_file, whole_folder                            what a library writes by itself, to a path
    holds_something                                     whether a new folder is free
    StagedFiles                                         several files that appear together
    append_line, replace_link, sync_folder              the rest of what must survive a power cut
    disk_errors_as_sentences                            OSError -> NearerError

Everything is written under the name that `temporary_path` gives it, flushed to the disk, and then
renamed. What a killed process leaves behind has such a name, and counts as nothing.
"""

import json
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from nearer.core.errors import DatasetError, NearerError

TEMPORARY_SUFFIX = ".tmp"


def temporary_path(path: Path) -> Path:
    """Return the name, hidden and in the same folder, that a file has while it is written."""
    return path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")


def holds_something(folder: Path, besides: str = "") -> bool:
    """Tell whether a folder has more in it than a killed process left, and a file of this name.

    Raises:
        OSError: it cannot be read, or is a file.
    """
    if not folder.exists():
        return False
    names = {path.name for path in folder.iterdir() if not path.match(f".*{TEMPORARY_SUFFIX}")}
    return bool(names - {besides})


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; missing folders are made.

    Raises:
        NearerError: the disk does not take it; what was there before is unharmed.
    """
    with disk_errors_as_sentences(path), whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; missing folders are made.

    Raises:
        NearerError: the disk does not take it; what was there before is unharmed.
    """
    with disk_errors_as_sentences(path), whole_file(path) as temporary:
        temporary.write_bytes(content)


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file whole that need not survive a power cut: the disk is not waited for."""
    with disk_errors_as_sentences(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        temporary.write_bytes(content)
        os.replace(temporary, path)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; raises as `write_text` does."""
    write_text(path, json.dumps(document, indent=1) + "\n")


def write_lines(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    """Write JSON objects, one a line, whole or not at all; raises as `write_text` does."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def append_line(path: Path, record: Mapping[str, object]) -> None:
    """Append a JSON object as a line; it is on the disk when this returns.

    Raises:
        NearerError: the disk does not take it.
    """
    with disk_errors_as_sentences(path), path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


@contextmanager
def whole_file(path: Path) -> Generator[Path, None, None]:
    """Give a path to write to; what is there when the block ends becomes `path`.

    Missing folders are made. If the block raises, nothing changes.

    Raises:
        OSError: the disk does not take it.
    """
    temporary = temporary_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        _share(temporary)
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Generator[Path, None, None]:
    """Give a new folder to write to; it takes the place of `folder` when the block ends.

    If the block raises, nothing changes.

    Raises:
        OSError: the disk does not take it.
    """
    temporary = temporary_path(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                _share(path)
                _sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def replace_link(link: Path, target: Path) -> None:
    """Make a link name a file or folder beside it, without a moment in which it names nothing."""
    temporary = temporary_path(link)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    os.replace(temporary, link)


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
        with temporary_path(path).open("w+b") as handle:
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
            os.replace(temporary_path(path), path)
        for folder in sorted({path.parent for path in paths}):
            sync_folder(folder)
        os.replace(temporary_path(paths[-1]), paths[-1])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make the commit durable, or remove what was staged if there was none."""
        paths = [*self._new, *self._replaced]
        # Asked of the disk, not of a flag: an interrupt may hit between the rename and the flag.
        if self._renaming and not temporary_path(paths[-1]).exists():
            sync_folder(paths[-1].parent)
            return
        for path in self._new:
            path.unlink(missing_ok=True)
        for path in paths:
            temporary_path(path).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    _sync(folder)


def _share(path: Path) -> None:
    """Let others read a new file as far as umask says; some libraries hide what they write."""
    if path.is_symlink() or path.stat().st_mode & 0o077:
        return
    # There is no other way to ask; what a thread makes in between is hidden, never open.
    mask = os.umask(0o077)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors_as_sentences(path: Path) -> Generator[None, None, None]:
    """Turn a failure of the disk into a NearerError that says what is kept and what to do."""
    try:
        yield
    except OSError as error:
        raise NearerError(
            f"{path} must be on a disk that can be written, got: {error.strerror or error}; what "
            "was written before is unharmed, free some space or choose another --out, and continue "
            "a run with --resume"
        ) from error
