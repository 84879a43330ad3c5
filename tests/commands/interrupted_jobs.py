"""Commands that a signal stops just before a change of the disk, as a program that runs jobs.

Those are the moments at which a kill does most harm, and so they are hit exactly. The program
imports nearer once, and forks for every job that it reads from stdin.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nearer.cli import main

DISK_CHANGES = ("replace", "rename", "fsync", "symlink", "unlink", "rmdir", "mkdir")
"""Functions of the module os before which a job can be stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A command, and the changes of the disk just before which signals arrive."""

    arguments: list[str]
    stop_before: Sequence[int] = ()
    with_signal: int = signal.SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a job ended.

    Attributes:
        code: exit code; negative: the signal that killed it.
        changes: number of changes of the disk; -1 if it was killed.
        stderr: what it wrote there.
    """

    code: int
    changes: int
    stderr: str


def serve() -> None:
    """Fork for every job that is read from stdin."""
    importlib.import_module("torch._dynamo")  # every optimiser needs it, and it takes a second
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            finished = run_forked(Job(**json.loads(line)), Path(folder))
            print(json.dumps(asdict(finished)), flush=True)


def run_forked(job: Job, folder: Path) -> Finished:
    """Run a job in a fork of this process."""
    stderr, count_file = folder / "stderr", folder / "changes"
    count_file.write_text("-1")
    child = os.fork()
    if child == 0:
        with stderr.open("w") as err, Path(os.devnull).open("w") as out:
            sys.stdout, sys.stderr = out, err
            code = 1
            try:
                num_changes = send_signals(job)
                code = run_command(job.arguments)
                count_file.write_text(str(num_changes()))
            finally:
                err.flush()
                os._exit(code)
    _, status = os.waitpid(child, 0)
    return Finished(
        code=os.waitstatus_to_exitcode(status),
        changes=int(count_file.read_text()),
        stderr=stderr.read_text(),
    )


def run_command(arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        main(arguments)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def send_signals(job: Job) -> Callable[[], int]:
    """Send the job's signal before some changes of the disk; return what counts the changes."""
    num_changes = 0

    def signalling(change: Callable[..., Any]) -> Callable[..., Any]:
        def signal_and_change(*arguments: Any, **options: Any) -> Any:
            nonlocal num_changes
            number = num_changes
            num_changes += 1
            if number in job.stop_before:
                os.kill(os.getpid(), job.with_signal)
            return change(*arguments, **options)

        return signal_and_change

    for name in DISK_CHANGES:
        setattr(os, name, signalling(getattr(os, name)))
    return lambda: num_changes


if __name__ == "__main__":
    serve()
