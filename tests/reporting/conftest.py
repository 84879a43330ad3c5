"""Runs of both stages made by the real commands, and what the report reads from them."""

import shutil
from pathlib import Path

import pytest

from nearer.cli import main
from nearer.reporting.html.page import write_report
from nearer.reporting.html.run_data import Report, read_report
from report_values import ENV_ID, Runs


def _run(*words: object) -> None:
    main([str(word) for word in words])


@pytest.fixture(scope="session")
def runs(stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Both stages on the point mass, evaluated, audited and with a reward report.

    Copy what you change: `copied_runs`.
    """
    root = tmp_path_factory.mktemp("runs")
    sft, practice = root / "sft", root / "practice"
    shutil.copytree(stage_one / "sft", sft, symlinks=True)
    starts = ("--env", ENV_ID, "--episodes", 12, "--max-steps", 40, "--num-envs", 12)
    _run("eval", "--checkpoint", sft, *starts)
    _run(
        *("improve", "--run", sft, "--env", ENV_ID, "--out", practice, "--num-envs", 4),
        *("--threshold", 20, "--max-steps", 30, "--max-env-steps", 300, "--batch-size", 32),
        *("--updates-per-iteration", 1, "--block-iterations", 1, "--audit-every", 1),
    )
    _run("eval", "--checkpoint", practice, *starts)
    _run(
        *("eval-reward", "--checkpoint", sft, "--env", ENV_ID, "--data", stage_one / "data"),
        *("--rollouts", 10, "--rollout-steps", 40, "--episodes", 6),
        *("--baseline-updates", 2, "--baseline-seeds", 1),
    )
    return Runs(stage_one=sft, stage_two=practice)


@pytest.fixture
def copied_runs(runs: Runs, tmp_path: Path) -> Runs:
    """Copies of both runs, for tests that change their files."""
    for run in runs.both:
        shutil.copytree(run, tmp_path / run.name, symlinks=True)
    return Runs(stage_one=tmp_path / "sft", stage_two=tmp_path / "practice")


@pytest.fixture(scope="session")
def report(runs: Runs) -> Report:
    """What the report reads from both runs; frozen, so that tests use `replace`."""
    return read_report(runs.both)


@pytest.fixture(scope="session")
def page(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page about both runs."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(runs.both, out).read_text(encoding="utf-8")
