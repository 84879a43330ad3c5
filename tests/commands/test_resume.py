"""A run that is killed or interrupted, anywhere, ends with the bits of one that was not.

A kill is a real SIGKILL. Most are sent just before a change of the disk (interrupted_jobs.py).
"""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import interrupted_jobs
from commands.interrupted_jobs import Finished, Job
from commands.tiny_runs import ENV_ID
from job_server import job_server
from nearer.algorithm.early_stopping import PlateauRule
from nearer.cli import main
from nearer.datasets.lerobot.reader import open_dataset, read_progress
from nearer.runs.json_files import read_lines
from nearer.runs.metrics import read_metrics

SFT = [
    *("--model", "mlp", "--mlp.hidden", "16"),
    *("--updates", "30", "--batch-size", "32", "--validate-every", "10"),
]
IMPROVE = [
    *("--env", ENV_ID, "--num-envs", "4", "--threshold", "20", "--max-steps", "30"),
    *("--updates-per-iteration", "2", "--batch-size", "32", "--max-env-steps", "800"),
    *("--block-iterations", "2", "--audit-every", "2", "--on-alarm", "continue"),
]  # fmt: skip
PAST = [
    *("--deviate.past-iterations", "2", "--deviate.baseline", "value"),
    *("--deviate.ppo-clip", "0.2"),
]


RunJob = Callable[[Job], Finished]


@pytest.fixture(scope="module")
def run_job() -> Iterator[RunJob]:
    """Return a function that runs a job in a process of its own."""
    with job_server(interrupted_jobs.__file__) as answer:
        yield lambda job: Finished(**answer(asdict(job)))


def outcome(run: Path) -> dict[str, Any]:
    """Return all of a run that must not depend on whether it was stopped."""
    metrics = [
        {name: value for name, value in record.items() if not name.startswith("time/")}
        for record in read_metrics(run)
    ]
    parts: dict[str, Any] = {"metrics": metrics, "audits": read_lines(run / "audits.jsonl")}
    for link in ("policy", "reward", "last"):
        for path in sorted((run / "checkpoints" / link).resolve().rglob("*")):
            if path.is_file():
                parts[f"{link}/{path.name}"] = path.read_bytes()
    checkpoints = (run / "checkpoints").iterdir()
    parts["links"] = {path.name: path.resolve().name for path in checkpoints}
    if (run / "calibration.json").exists():
        parts["calibration"] = json.loads((run / "calibration.json").read_text())
    if (run / "practice").exists():
        dataset = open_dataset(run / "practice")
        columns = {**dataset.columns, **(read_progress(dataset) or {})}
        parts["practice"] = {name: bits(values) for name, values in columns.items()}
    return parts


def bits(values: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return str(values.dtype), values.shape, values.tobytes()


def check_same(run: Path, expected: dict[str, Any], event: str) -> None:
    """Check that a run came out as expected although it was stopped by an event."""
    actual = outcome(run)
    assert actual.keys() == expected.keys(), event
    for name, value in expected.items():
        assert actual[name] == value, f"{name} differs after {event}"


def start_command(kind: str, out: Path, stage_one: Path) -> list[str]:
    if kind == "sft":
        return ["sft", "--data", str(stage_one / "data"), "--out", str(out), *SFT]
    options = [*IMPROVE, *(PAST if kind == "improve with past" else [])]
    return ["improve", "--run", str(stage_one / "sft"), "--out", str(out), *options]


def resume_command(kind: str, out: Path) -> list[str]:
    return [kind.split()[0], "--resume", "--out", str(out)]


KINDS = ("sft", "improve", "improve with past")
NUM_MOMENTS = {"sft": 3, "improve": 4, "improve with past": 2}
"""Number of kills at changes drawn at random, besides those at the last three."""


@pytest.fixture(scope="module", params=KINDS)
def reference(
    request: pytest.FixtureRequest,
    stage_one: Path,
    run_job: RunJob,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, dict[str, Any], int]:
    """Return a kind of run, what comes out of it undisturbed, and its changes of the disk."""
    run = tmp_path_factory.mktemp("reference") / "run"
    finished = run_job(Job(arguments=start_command(request.param, run, stage_one)))
    assert finished.code == 0, finished.stderr
    assert len(read_metrics(run)) >= 3
    return request.param, outcome(run), finished.changes


def test_resume_killed_run_gives_the_same_bits(
    reference: tuple[str, dict[str, Any], int], run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    kind, expected, changes = reference
    drawn = random.Random(changes).sample(range(2, changes - 3), NUM_MOMENTS[kind])
    for moment in [*drawn, *range(changes - 3, changes)]:
        out = tmp_path / str(moment)
        start, resume = start_command(kind, out, stage_one), resume_command(kind, out)
        assert run_job(Job(arguments=start, stop_before=[moment])).code == -signal.SIGKILL
        second = run_job(Job(arguments=resume, stop_before=[moment % 7 + 2]))
        assert second.code in (-signal.SIGKILL, 0), second.stderr
        last = run_job(Job(arguments=resume))
        assert last.code == 0, last.stderr
        check_same(out, expected, f"a kill of {kind} at {moment} of {changes}")


@pytest.mark.parametrize("kind", ["sft", "improve"])
def test_resume_run_killed_before_its_first_file_is_refused(
    kind: str, run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    start = start_command(kind, tmp_path / "run", stage_one)
    assert run_job(Job(arguments=start, stop_before=[1])).code == -signal.SIGKILL
    resumed = run_job(Job(arguments=resume_command(kind, tmp_path / "run")))
    assert resumed.code == 1
    assert "start the run without --resume" in resumed.stderr
    assert run_job(Job(arguments=start)).code == 0


def test_resume_after_ctrl_c_gives_the_same_bits(
    reference: tuple[str, dict[str, Any], int], run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    kind, expected, changes = reference
    # Early, in the middle, and twice in a row, which stops at once, amid a write.
    for row, moment in enumerate([(8,), (changes // 2,), (changes // 2, changes // 2 + 1)]):
        out = tmp_path / str(row)
        command = start_command(kind, out, stage_one)
        stopped = run_job(Job(arguments=command, stop_before=moment, with_signal=signal.SIGINT))
        assert stopped.code == 130
        sentence = "nearer: stopped by Ctrl-C.*; continue with nearer (.*)\n"
        advice = re.fullmatch(sentence, stopped.stderr)
        assert advice, stopped.stderr
        last = run_job(Job(arguments=shlex.split(advice[1])))
        assert last.code == 0, last.stderr
        check_same(out, expected, f"Ctrl-C in {kind} at {moment} of {changes}")


def start_process(*arguments: str) -> subprocess.Popen[str]:
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
    """Send a signal some time after the first metrics are written; return its stderr."""
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
def test_plateau_rule_any_stops_keep_the_best_checkpoint(
    detected: list[int], stops: set[int], block: int
) -> None:
    """The policy that started the best block is still there, whichever block that is."""
    rule = PlateauRule(block_iterations=block)
    history: list[Any] = []
    checkpoints = {0}
    for step, num_detected in enumerate(detected, 1):
        history.append(SimpleNamespace(detected=num_detected, env_steps=10))
        if step % block == 0 or step in stops:
            checkpoints.add(step)
            assert rule.best_step(history) in checkpoints
            checkpoints &= {step, rule.best_step(history), *rule.kept_steps(history)}


LONG = {
    "sft": ["--updates", "600", "--validate-every", "20"],
    "improve": ["--max-env-steps", "4000", "--patience-blocks", "99"],
}
"""Options of runs so long that a random moment after the first metrics is amid the work."""


@pytest.mark.parametrize("kind", ["sft", "improve"])
def test_resume_process_stopped_at_random_time_gives_the_same_bits(
    stage_one: Path, tmp_path: Path, kind: str
) -> None:
    delay = random.Random(kind)
    names = ("undisturbed", "killed", "interrupted")
    undisturbed, killed, interrupted = (tmp_path / name for name in names)
    main([*start_command(kind, undisturbed, stage_one), *LONG[kind]])
    for run, with_signal in ((killed, signal.SIGKILL), (interrupted, signal.SIGINT)):
        process = start_process(*start_command(kind, run, stage_one), *LONG[kind])
        stderr = stop_later(process, run, with_signal, delay.uniform(0, 0.1))
        assert read_metrics(run)[-1]["step"] < read_metrics(undisturbed)[-1]["step"]
        if with_signal == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 130
            advice = f"continue with nearer {kind} --resume --out {run}"
            assert stderr == f"nearer: stopped by Ctrl-C, everything is written; {advice}\n"
        main(resume_command(kind, run))
        check_same(run, outcome(undisturbed), f"signal {with_signal} to nearer {kind}")


def test_resume_truncated_log_line_is_written_again(
    run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    """A kill during an append leaves only a part of the line on the disk."""
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    main(start_command("improve", undisturbed, stage_one))
    job = Job(arguments=start_command("improve", killed, stage_one), stop_before=[120])
    assert run_job(job).code == -signal.SIGKILL
    for name in ("metrics.jsonl", "audits.jsonl"):
        num_lines = len(read_lines(killed / name))
        line = (undisturbed / name).read_text().splitlines(keepends=True)[num_lines]
        for length in (10, len(line) - 1):
            run = tmp_path / f"{name}_{length}"
            shutil.copytree(killed, run, symlinks=True)
            with (run / name).open("a") as log:
                log.write(line[:length])
            main(resume_command("improve", run))
            check_same(run, outcome(undisturbed), f"{length} characters of a line of {name}")


def file_states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return when each path was last changed, and its inode."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")}


@pytest.mark.parametrize("kind", ["sft", "improve"])
def test_resume_finished_run_changes_nothing(
    stage_one: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    main(start_command(kind, run, stage_one))
    before = file_states(run)
    capsys.readouterr()
    main(resume_command(kind, run))
    assert "is done" in capsys.readouterr().out
    assert file_states(run) == before
