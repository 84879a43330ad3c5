"""A run that is killed or interrupted, anywhere, ends with the bits of one that was not.

A kill is a real SIGKILL. Most are sent just before a chosen change of the disk: those are the nasty
moments, and so they are hit exactly. For speed, one process (`python test_resume.py JOBS`) imports
nearer once and forks for every command.
"""

import contextlib
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearer.cli import main
from nearer.data.reader import open_dataset, read_progress
from nearer.run import read_lines, read_metrics

ENV_ID = "nearer/PointMass-v0"
DISK_CHANGES = ("replace", "rename", "fsync", "symlink", "unlink", "rmdir", "mkdir")
"""Functions of the module os before which a job can be stopped."""

SFT = ["--mlp.hidden", "16", "--updates", "30", "--batch-size", "32", "--validate-every", "10"]
IMPROVE = [
    *("--env", ENV_ID, "--robots", "4", "--threshold", "20", "--max-steps", "30"),
    *("--updates-per-iteration", "2", "--batch-size", "32", "--max-env-steps", "800"),
    *("--block-iterations", "2", "--audit-every", "2"),
]  # fmt: skip
PAST = ["--deviate.past-iterations", "2", "--deviate.baseline", "--deviate.ppo-clip", "0.2"]


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
        changes: of the disk that it got to; -1 if it was killed.
        stderr: what it said.
    """

    code: int
    changes: int
    stderr: str


def run_jobs(folder: Path, jobs: Sequence[Job]) -> list[Finished]:
    """Run jobs one after the other, each in a process of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / "jobs.json"
    path.write_text(json.dumps([asdict(job) for job in jobs]))
    command = [sys.executable, __file__, str(path)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return [Finished(**row) for row in json.loads((folder / "finished.json").read_text())]


def run_job_file(path: Path) -> None:
    jobs = [Job(**row) for row in json.loads(path.read_text())]
    finished = [_run_forked(job, path.parent) for job in jobs]
    (path.parent / "finished.json").write_text(json.dumps([asdict(one) for one in finished]))


def _run_forked(job: Job, folder: Path) -> Finished:
    stderr, counted = folder / "stderr", folder / "changes"
    counted.write_text("-1")
    child = os.fork()
    if child == 0:
        with stderr.open("w") as err, Path(os.devnull).open("w") as out:
            sys.stdout, sys.stderr = out, err
            os.dup2(err.fileno(), 2)
            code = 1
            try:
                changes = _stop_at(job)
                with contextlib.suppress(SystemExit):
                    code = 0
                    code = _main(job.arguments)
                counted.write_text(str(changes[0]))
            finally:
                err.flush()
                os._exit(code)
    _, status = os.waitpid(child, 0)
    return Finished(
        code=os.waitstatus_to_exitcode(status),
        changes=int(counted.read_text()),
        stderr=stderr.read_text(),
    )


def _main(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def _stop_at(job: Job) -> list[int]:
    """Count changes of the disk from now on, and send the job's signal before some."""
    count = [0]

    def counting(change: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            now = count[0]
            count[0] += 1
            if now in job.stop_before:
                os.kill(os.getpid(), job.with_signal)
            return change(*arguments, **options)

        return counted

    for name in DISK_CHANGES:
        setattr(os, name, counting(getattr(os, name)))
    return count


def outcome(run: Path) -> dict[str, Any]:
    """Return all of a run that must not depend on whether it was stopped."""
    metrics = [
        {name: value for name, value in record.items() if not name.startswith("time/")}
        for record in read_metrics(run)
    ]
    found: dict[str, Any] = {"metrics": metrics, "audits": read_lines(run / "audits.jsonl")}
    for link in ("policy", "reward", "last"):
        for path in sorted((run / "checkpoints" / link).resolve().rglob("*")):
            if path.is_file():
                found[f"{link}/{path.name}"] = path.read_bytes()
    checkpoints = (run / "checkpoints").iterdir()
    found["links"] = {path.name: path.resolve().name for path in checkpoints}
    if (run / "calibration.json").exists():
        found["calibration"] = json.loads((run / "calibration.json").read_text())
    if (run / "practice").exists():
        dataset = open_dataset(run / "practice")
        columns = {**dataset.columns, **(read_progress(dataset) or {})}
        found["practice"] = {name: _bits(values) for name, values in columns.items()}
    return found


def _bits(values: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return str(values.dtype), values.shape, values.tobytes()


def check_same(run: Path, reference: dict[str, Any], what: str) -> None:
    found = outcome(run)
    assert found.keys() == reference.keys(), what
    for name, value in reference.items():
        assert found[name] == value, f"{name} differs after {what}"


def command_of(kind: str, out: Path, stage_one: Path) -> list[str]:
    if kind == "sft":
        return ["sft", "--data", str(stage_one / "data"), "--out", str(out), *SFT]
    options = [*IMPROVE, *(PAST if kind == "improve with past" else [])]
    return ["improve", "--run", str(stage_one / "sft"), "--out", str(out), *options]


def resume(out: Path, kind: str) -> list[str]:
    return [kind.split()[0], "--resume", "--out", str(out)]


KINDS = ("sft", "improve", "improve with past")


@pytest.fixture(scope="module", params=KINDS)
def reference(
    request: pytest.FixtureRequest, stage_one: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any], int]:
    """Return a kind of run, what comes out of it undisturbed, and its changes of the disk."""
    folder = tmp_path_factory.mktemp("reference")
    finished = run_jobs(
        folder, [Job(arguments=command_of(request.param, folder / "run", stage_one))]
    )
    assert finished[0].code == 0, finished[0].stderr
    return request.param, outcome(folder / "run"), finished[0].changes


def chosen(changes: int, number: int) -> list[int]:
    """Return moments: the first and last few, where a run is made and finished, and others."""
    ends = [0, 1, 2, 3, *range(changes - 8, changes)]
    return ends + sorted(random.Random(changes).sample(range(4, changes - 8), number))


def test_killed_anywhere_it_resumes_to_the_same_bits(
    reference: tuple[str, dict[str, Any], int], stage_one: Path, tmp_path: Path
) -> None:
    kind, expected, changes = reference
    moments = chosen(changes, 8)
    jobs: list[Job] = []
    for moment in moments:
        out = tmp_path / str(moment)
        jobs += [
            Job(arguments=command_of(kind, out, stage_one), stop_before=[moment]),
            Job(arguments=resume(out, kind), stop_before=[moment % 7 + 2]),
            Job(arguments=resume(out, kind)),
        ]
    finished = run_jobs(tmp_path / "jobs", jobs)
    for row, moment in enumerate(moments):
        out = tmp_path / str(moment)
        killed, again, last = finished[3 * row : 3 * row + 3]
        assert killed.code == -signal.SIGKILL
        if not (out / "run.json").exists():
            # Killed before anything was there: it can simply be started again.
            assert "start the run without --resume" in last.stderr
            assert (
                run_jobs(tmp_path / "jobs", [Job(arguments=jobs[3 * row].arguments)])[0].code == 0
            )
        else:
            assert again.code in (-signal.SIGKILL, 0), again.stderr
            assert last.code == 0, last.stderr
        check_same(out, expected, f"a kill of {kind} at change {moment} of {changes}")


if __name__ == "__main__":
    run_job_file(Path(sys.argv[1]))
