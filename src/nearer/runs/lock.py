"""One process at a time works on a run or a data set.

    with alone(path): ...      this process works on `path`, or another one does and is named

The lock is an OS lock (flock) on a small file, in the folder that is written or beside the file.
The system frees it when its process ends, however that happens; the file's text is for people. A
disk shared by several machines may not pass OS locks on from one to the other. So the process that
holds a lock touches its file every minute, and a file of another machine counts for ten.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from nearer.core.errors import ConfigError
from nearer.runs.files import temporary_path
from nearer.runs.json_files import UnexpectedJson, from_json, to_json

_BEAT_S = 60
_SILENCE_S = 600
_LONGEST = 1000  # bytes of a lock's text


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that a lock's text names."""

    pid: int
    host: str

    def __str__(self) -> str:
        """Return it as a sentence names it."""
        return f"process {self.pid} on host {self.host}"


@contextmanager
def alone(path: Path, *, is_file: bool = False) -> Generator[None, None, None]:
    """Work on a folder or a file that no other process works on.

    A folder that is missing is made; it goes again if nothing is in it when the block ends.

    Args:
        path: what is written.
        is_file: whether it is a file; else a folder.

    Raises:
        ConfigError: another process works on it, or no file can be made there.
    """
    folder = (path.parent if is_file else path).resolve()
    lock = temporary_path(folder / (f"{path.name}.lock" if is_file else "lock"))
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        descriptor = _locked(lock, path)
    except OSError as error:
        _remove_empty(missing)
        is_taken = isinstance(error, FileExistsError)
        expected = "a new or empty folder" if is_taken else "on a disk that can be written"
        raise ConfigError(
            f"{path} must be {expected}, got: {error.strerror or error}; choose another --out, or "
            "make it writable"
        ) from error
    ended = Event()
    beat = Thread(target=_beat, args=(descriptor, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        if _is_at(descriptor, lock):
            lock.unlink(missing_ok=True)
        os.close(descriptor)
        _remove_empty(missing)


def _locked(lock: Path, path: Path) -> int:
    """Return the open lock file, with this process's name in it.

    Raises:
        ConfigError: another process holds it.
        OSError: it cannot be made.
    """
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _take(descriptor, lock, path)
            if _is_at(descriptor, lock):
                _sign(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it has removed the file since: another one is needed


def _take(descriptor: int, lock: Path, path: Path) -> None:
    """Lock the file, or raise ConfigError if another process holds it."""
    before = _holder(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        here = False
    except BlockingIOError:
        here = True
    except OSError:  # a disk without locks: only the text says who works
        here = before is not None and before.host == socket.gethostname() and _lives(before.pid)
    elsewhere = before is not None and before.host != socket.gethostname()
    silence_s = time.time() - os.fstat(descriptor).st_mtime
    if here or (elsewhere and silence_s < _SILENCE_S):
        advice = f"; if it has ended there, delete {lock}" if elsewhere else ""
        raise ConfigError(
            f"one process at a time must work on {path}, got a second: "
            f"{before or 'another process'} works on it; wait until it ends, or choose another "
            f"--out{advice}"
        )


def _holder(descriptor: int) -> Holder | None:
    """Return who the text names; None where it is empty or damaged."""
    try:
        return from_json(Holder, json.loads(os.pread(descriptor, _LONGEST, 0)))
    except (ValueError, UnexpectedJson, RecursionError):
        return None


def _sign(descriptor: int) -> None:
    text = json.dumps(to_json(Holder(pid=os.getpid(), host=socket.gethostname())))
    with suppress(OSError):  # a full disk has no room for the text, and the lock holds without
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _is_at(descriptor: int, lock: Path) -> bool:
    """Tell whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except OSError:
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _beat(descriptor: int, ended: Event) -> None:
    while not ended.wait(_BEAT_S):
        with suppress(OSError):
            os.utime(descriptor)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders that nothing was written to, the innermost first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
