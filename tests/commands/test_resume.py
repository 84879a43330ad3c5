"""A run that is killed or interrupted, anywhere, ends with the bits of one that was not.

A kill is a real SIGKILL. Most are sent just before a chosen change of the disk: those are the
nasty moments, and so they are hit exactly. For speed, one process (`python test_resume.py`) imports
nearer once and forks for every command.
"""

import importlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job_server import job_server
from nearer.algorithm.early_stopping import PlateauRule
from nearer.cli import main
from nearer.datasets.lerobot.reader import open_dataset, read_progress
from nearer.runs.json_files import read_lines
from nearer.runs.metrics import read_metrics

ENV_ID = "nearer/PointMass-v0"
DISK_CHANGES = ("replace", "rename", "fsync", "symlink", "unlink", "rmdir", "mkdir")
"""Functions of the module os before which a job can be stopped."""

SFT = [
    "--model",
    "mlp",
    "--mlp.hidden",
    "16",
    "--updates",
    "30",
    "--batch-size",
    "32",
    "--validate-every",
    "10",
]
IMPROVE = [
    *("--env", ENV_ID, "--num-envs", "4", "--threshold", "20", "--max-steps", "30"),
    *("--updates-per-iteration", "2", "--batch-size", "32", "--max-env-steps", "800"),
    *("--block-iterations", "2", "--audit-every", "2"),
]  # fmt: skip
PAST = [
    "--deviate.past-iterations",
    "2",
    "--deviate.baseline",
    "value",
    "--deviate.ppo-clip",
    "0.2",
]


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


RunJob = Callable[[Job], Finished]


@pytest.fixture(scope="module")
def run_job() -> Iterator[RunJob]:
    """Return a function that runs a job in a process of its own."""
    with job_server(__file__) as answer:
        yield lambda job: Finished(**answer(asdict(job)))


def serve() -> None:
    """Fork for every job that is read from stdin."""
    importlib.import_module("torch._dynamo")  # every optimiser needs it, and it takes a second
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            finished = _run_forked(Job(**json.loads(line)), Path(folder))
            print(json.dumps(asdict(finished)), flush=True)


def _run_forked(job: Job, folder: Path) -> Finished:
    stderr, counted = folder / "stderr", folder / "changes"
    counted.write_text("-1")
    child = os.fork()
    if child == 0:
        with stderr.open("w") as err, Path(os.devnull).open("w") as out:
            sys.stdout, sys.stderr = out, err
            code = 1
            try:
                changes = _stop_at(job)
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
NUM_MOMENTS = {"sft": 3, "improve": 4, "improve with past": 2}
"""How many kills at changes drawn at random, besides the first and last ones."""


@pytest.fixture(scope="module", params=KINDS)
def reference(
    request: pytest.FixtureRequest,
    stage_one: Path,
    run_job: RunJob,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, dict[str, Any], int]:
    """Return a kind of run, what comes out of it undisturbed, and its changes of the disk."""
    run = tmp_path_factory.mktemp("reference") / "run"
    finished = run_job(Job(arguments=command_of(request.param, run, stage_one)))
    assert finished.code == 0, finished.stderr
    assert len(read_metrics(run)) >= 3
    return request.param, outcome(run), finished.changes


def test_killed_anywhere_it_resumes_to_the_same_bits(
    reference: tuple[str, dict[str, Any], int], run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    kind, expected, changes = reference
    drawn = random.Random(changes).sample(range(2, changes - 3), NUM_MOMENTS[kind])
    for moment in [*drawn, *range(changes - 3, changes)]:
        out = tmp_path / str(moment)
        start, again = command_of(kind, out, stage_one), resume(out, kind)
        assert run_job(Job(arguments=start, stop_before=[moment])).code == -signal.SIGKILL
        twice = run_job(Job(arguments=again, stop_before=[moment % 7 + 2]))
        assert twice.code in (-signal.SIGKILL, 0), twice.stderr
        last = run_job(Job(arguments=again))
        assert last.code == 0, last.stderr
        check_same(out, expected, f"a kill of {kind} at {moment} of {changes}")


@pytest.mark.parametrize("kind", ["sft", "improve"])
def test_killed_before_anything_was_there_it_starts_again(
    kind: str, run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    start = command_of(kind, tmp_path / "run", stage_one)
    assert run_job(Job(arguments=start, stop_before=[1])).code == -signal.SIGKILL
    refused = run_job(Job(arguments=resume(tmp_path / "run", kind)))
    assert refused.code == 1
    assert "start the run without --resume" in refused.stderr
    assert run_job(Job(arguments=start)).code == 0


def test_ctrl_c_says_how_to_resume_to_the_same_bits(
    reference: tuple[str, dict[str, Any], int], run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    kind, expected, changes = reference
    # Early, in the middle, and twice in a row, which stops at once, amid a write.
    for row, moment in enumerate([(8,), (changes // 2,), (changes // 2, changes // 2 + 1)]):
        out = tmp_path / str(row)
        command = command_of(kind, out, stage_one)
        stopped = run_job(Job(arguments=command, stop_before=moment, with_signal=signal.SIGINT))
        assert stopped.code == 130
        said = re.fullmatch(
            "nearer: stopped by Ctrl-C.*; continue with nearer (.*)\n", stopped.stderr
        )
        assert said, stopped.stderr
        last = run_job(Job(arguments=shlex.split(said[1])))
        assert last.code == 0, last.stderr
        check_same(out, expected, f"Ctrl-C in {kind} at {moment} of {changes}")


def nearer(*arguments: str) -> subprocess.Popen[str]:
    """Start the command line as a user does."""
    code = "import sys; from nearer.cli import main; main(sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_later(process: subprocess.Popen[str], run: Path, with_signal: int, delay_s: float) -> str:
    """Send a signal some time after the first metrics are written; return what was said."""
    for _ in range(6000):
        if (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(delay_s)
    process.send_signal(with_signal)
    return process.communicate()[1]


@given(
    detected=st.lists(st.integers(0, 3), max_size=14),
    stops=st.sets(st.integers(1, 14)),
    block=st.integers(1, 3),
)
@settings(deadline=None)
def test_the_checkpoint_to_keep_was_never_dropped(
    detected: list[int], stops: set[int], block: int
) -> None:
    """Whatever turns out to be the best block, the policy that started it is still there."""
    rule = PlateauRule(block_iterations=block)
    history: list[Any] = []
    there = {0}
    for step, one in enumerate(detected, 1):
        history.append(SimpleNamespace(detected=one, env_steps=10))
        if step % block == 0 or step in stops:
            there.add(step)
            assert rule.best_step(history) in there
            there &= {step, rule.best_step(history), *rule.kept_steps(history)}


LONG = {
    "sft": ["--updates", "600", "--validate-every", "20"],
    "improve": ["--max-env-steps", "4000", "--patience-blocks", "99"],
}
"""Long enough that a random moment after the first metrics is amid the work."""


@pytest.mark.parametrize("kind", ["sft", "improve"])
def test_a_real_process_stopped_at_a_random_time(
    stage_one: Path, tmp_path: Path, kind: str
) -> None:
    delay = random.Random(kind)
    whole, killed, stopped = (tmp_path / name for name in ("whole", "killed", "stopped"))
    main([*command_of(kind, whole, stage_one), *LONG[kind]])
    for run, with_signal in ((killed, signal.SIGKILL), (stopped, signal.SIGINT)):
        process = nearer(*command_of(kind, run, stage_one), *LONG[kind])
        said = stop_later(process, run, with_signal, delay.uniform(0, 0.1))
        assert read_metrics(run)[-1]["step"] < read_metrics(whole)[-1]["step"]
        if with_signal == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 130
            advice = f"continue with nearer {kind} --resume --out {run}"
            assert said == f"nearer: stopped by Ctrl-C, everything is written; {advice}\n"
        main(resume(run, kind))
        check_same(run, outcome(whole), f"signal {with_signal} to nearer {kind}")


def test_a_line_that_a_kill_cut_is_written_again(
    run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    """Killed amid an append, of which the disk has only a part."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main(command_of("improve", whole, stage_one))
    job = Job(arguments=command_of("improve", killed, stage_one), stop_before=[120])
    assert run_job(job).code == -signal.SIGKILL
    for name in ("metrics.jsonl", "audits.jsonl"):
        known = len(read_lines(killed / name))
        line = (whole / name).read_text().splitlines(keepends=True)[known]
        for keep in (10, len(line) - 1):
            cut = tmp_path / f"{name}_{keep}"
            shutil.copytree(killed, cut, symlinks=True)
            with (cut / name).open("a") as log:
                log.write(line[:keep])
            main(resume(cut, "improve"))
            check_same(cut, outcome(whole), f"{keep} characters of a last line of {name}")


@pytest.mark.parametrize("kind", ["sft", "improve"])
def test_resuming_a_finished_run_changes_nothing(
    stage_one: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    main(command_of(kind, run, stage_one))
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*")}
    capsys.readouterr()
    main(resume(run, kind))
    assert "is done" in capsys.readouterr().out
    assert before == {
        path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*")
    }


if __name__ == "__main__":
    serve()
