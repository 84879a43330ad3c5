"""A run is continued from another folder, moved with what it needs, or deleted under way."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from commands.faults import call_at_step
from commands.tiny_runs import ENV_ID, TINY_IMPROVE, TINY_SFT
from nearer.algorithm import sft
from nearer.cli import main
from nearer.runs.documents import read_header
from nearer.runs.run import is_finished
from refusals import refused

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("command", ["sft", "improve"])
def test_resume_from_another_working_folder_goes_on(
    command: str, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = {
        "sft": ["--data", "data", *TINY_SFT],
        "improve": ["--run", "sft", *TINY_IMPROVE],
    }
    monkeypatch.chdir(workspace)
    main([command, *starts[command], "--out", "run"])
    (workspace / "run/FINISHED").unlink()
    monkeypatch.chdir(tmp_path)
    main([command, "--resume", "--out", "workspace/run"])
    assert is_finished(workspace / "run")
    monkeypatch.chdir(workspace)
    main([command, "--resume", "--out", "run", *starts[command]])  # the flags it was started with


def test_runs_that_have_moved_together_find_each_other(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(workspace)
    main(["improve", "--run", "sft", "--out", "runs/practice", *TINY_IMPROVE])
    moved = Path(shutil.move(workspace, tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    assert read_header(moved / "runs/practice").config["run"] == str(moved / "sft")
    capsys.readouterr()
    main(["card", str(moved / "runs/practice"), "--name", "user/name"])
    assert 'nearer.from_pretrained("user/name", "reward")' in capsys.readouterr().out
    (moved / "runs/practice/FINISHED").unlink()
    main(["improve", "--resume", "--out", str(moved / "runs/practice")])
    assert is_finished(moved / "runs/practice")


@pytest.mark.parametrize("command", ["collect", "improve"])
def test_folder_deleted_under_a_run_ends_it_with_a_sentence(
    command: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    out = workspace / "out"
    starts: dict[str, list[object]] = {
        "collect": ["--env", ENV_ID, "--episodes", 10],
        "improve": ["--run", workspace / "sft", *TINY_IMPROVE],
    }
    call_at_step(monkeypatch, 4, lambda: shutil.rmtree(out))
    message = refused(capsys, command, *starts[command], "--out", out)
    assert str(out) in message
    assert not out.exists()


def test_folder_deleted_under_stage_one_ends_it_with_a_sentence(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    out = workspace / "out"
    validate = sft.validate

    def delete_and_validate(*arguments: Any) -> Any:
        shutil.rmtree(out, ignore_errors=True)
        return validate(*arguments)

    monkeypatch.setattr(sft, "validate", delete_and_validate)
    message = refused(capsys, "sft", "--data", workspace / "data", *TINY_SFT, "--out", out)
    assert "somebody has deleted or moved it" in message
    assert not out.exists()
