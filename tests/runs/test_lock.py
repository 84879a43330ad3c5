"""Two processes on one folder: the second is told who works there; the dead are in nobody's way."""

import json
import multiprocessing
import os
import signal
import socket
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from nearer.core.errors import ConfigError
from nearer.runs.lock import alone


def hold(path: Path, held: Event) -> None:
    """Hold a lock until killed."""
    with alone(path):
        held.set()
        signal.pause()


def test_alone_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", held))
    process.start()
    assert process.pid
    assert held.wait(60)
    name = f"process {process.pid} on host {socket.gethostname()} works on it"
    with pytest.raises(ConfigError, match=name), alone(tmp_path / "run"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with alone(tmp_path / "run"):
        pass
    assert not list((tmp_path / "run").iterdir())


def test_alone_same_folder_by_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with alone(tmp_path / "run"), pytest.raises(ConfigError, match=f"process {os.getpid()} on"):  # noqa: SIM117
        with alone(tmp_path / "link"):
            pass


def test_alone_file_is_not_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "labels.parquet"
    with alone(tmp_path), alone(file, is_file=True), pytest.raises(ConfigError, match="labels"):  # noqa: SIM117
        with alone(file, is_file=True):
            pass
    assert not list(tmp_path.iterdir())


def left_by(folder: Path, host: str, pid: object = 1) -> Path:
    """Leave the lock file of a process that nobody holds a lock for."""
    lock = folder / ".lock.tmp"
    lock.write_text(json.dumps({"pid": pid, "host": host}))
    return lock


def test_alone_live_process_of_another_host_is_refused_with_how_to_take_over(
    tmp_path: Path,
) -> None:
    lock = left_by(tmp_path, "far-away", 7)
    sentence = f"process 7 on host far-away works on it.*if it has ended there, delete {lock}"
    with pytest.raises(ConfigError, match=sentence), alone(tmp_path):
        pass
    assert lock.exists()


@pytest.mark.parametrize("host", [socket.gethostname(), "far-away"])
def test_alone_lock_of_a_dead_process_is_taken_over(host: str, tmp_path: Path) -> None:
    lock = left_by(tmp_path, host)
    os.utime(lock, (0, 0))
    with alone(tmp_path):
        assert json.loads(lock.read_text()) == {"pid": os.getpid(), "host": socket.gethostname()}
    assert not lock.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "host": 3}', "\x00\xff"])
def test_alone_damaged_lock_file_is_taken_over(text: str, tmp_path: Path) -> None:
    (tmp_path / ".lock.tmp").write_text(text)
    with alone(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_alone_disk_without_locks_asks_whether_the_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    left_by(tmp_path, socket.gethostname(), os.getpid())
    with pytest.raises(ConfigError, match=f"process {os.getpid()} on host"), alone(tmp_path):
        pass
    left_by(tmp_path, socket.gethostname(), 2**22 + 1)
    with alone(tmp_path):
        pass


def test_alone_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="must be on a disk that can be written, got: Not a dir"):  # noqa: SIM117
        with alone(tmp_path / "file" / "run"):
            pass


def test_alone_removes_folders_that_nothing_was_written_to(tmp_path: Path) -> None:
    with alone(tmp_path / "a" / "b"):
        (tmp_path / "a" / "note").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["note"]
