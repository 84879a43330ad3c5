"""Every command that writes refuses a place that another process works on, and changes nothing."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from commands.faults import file_contents
from commands.tiny_runs import ENV_ID, TINY_IMPROVE, TINY_SFT
from nearer.cli import main
from nearer.runs.lock import alone
from refusals import refused

Start = Callable[[Path], tuple[list[object], Path]]
"""Returns a command's arguments in a workspace, and what it writes."""

COMMANDS: dict[str, Start] = {
    "collect": lambda w: (["--env", ENV_ID, "--out", w / "new"], w / "new"),
    "sft": lambda w: (["--data", w / "data", "--out", w / "new", *TINY_SFT], w / "new"),
    "improve": lambda w: (["--run", w / "sft", "--out", w / "new", *TINY_IMPROVE], w / "new"),
    "eval": lambda w: (["--checkpoint", w / "sft", "--env", ENV_ID], w / "sft/eval"),
    "eval-reward": lambda w: (
        ["--checkpoint", w / "sft", "--env", ENV_ID],
        w / "sft/eval_reward",
    ),
    "label": lambda w: ([w / "data", "--model", w / "sft"], w / "data"),
    "adapt": lambda w: (["--run", w / "sft", "--data", w / "data", "--out", w / "new"], w / "new"),
    "pretrain": lambda w: (["--out", w / "new"], w / "new"),
    "demo": lambda w: (["point-mass", "--out", w / "new"], w / "new"),
    # Its parts have a lock each: several seeds of one study may run side by side.
    "reproduce": lambda w: (["headline", "--out", w / "new"], w / "new/demonstrations"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_place_that_another_process_writes_is_refused(
    command: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, place = COMMANDS[command](workspace)
    with alone(place):
        before = file_contents(workspace)
        message = refused(capsys, command, *arguments)
        assert file_contents(workspace) == before
    assert f"process {os.getpid()} on host {socket.gethostname()} works on it" in message
    assert str(place) in message


def test_export_file_that_another_process_writes_is_refused(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rerun")
    out = workspace / "episodes.rrd"
    with alone(out, is_file=True):
        message = refused(capsys, "export", workspace / "data", "--out", out)
    assert "works on it" in message


@pytest.mark.parametrize("command", ["sft", "improve"])
def test_resume_run_that_another_process_continues_is_refused(
    command: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, run = COMMANDS[command](workspace)
    main([command, *map(str, arguments)])
    (run / "FINISHED").unlink()
    with alone(run):
        before = file_contents(run)
        message = refused(capsys, command, "--resume", "--out", run)
        assert file_contents(run) == before
    assert "works on it" in message
