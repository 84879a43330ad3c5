"""nearer collect: what stops it leaves either whole demonstrations or a free folder."""

import os
import re
from pathlib import Path

import pytest

from commands.faults import call_at_step, fill_disk, press_ctrl_c, raise_env_error
from commands.tiny_runs import ENV_ID
from nearer.cli import main
from nearer.datasets.lerobot.reader import open_dataset
from refusals import refused

Capture = pytest.CaptureFixture[str]


def collect_command(out: Path, episodes: int = 4) -> list[str]:
    return ["collect", "--env", ENV_ID, "--episodes", str(episodes), "--out", str(out)]


@pytest.mark.usefixtures("faulty_envs")
def test_collect_env_without_demonstrator_is_refused(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "data"
    message = refused(capsys, "collect", "--env", "test/SmallEnv-v0", "--out", out)
    assert "must bring a method demonstrator(num_robots) to collect from, and has none" in message
    assert not out.exists()


def test_collect_no_success_leaves_the_folder_free(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "data"
    message = refused(capsys, *collect_command(out), "--max-steps", "10")
    sentence = "got 0 successes of 10 observations or more in 4 episodes; allow more steps"
    assert sentence in message
    main(collect_command(out))
    assert open_dataset(out).info.total_episodes > 0


def test_collect_env_error_keeps_finished_demonstrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    out = tmp_path / "data"
    call_at_step(monkeypatch, 90, raise_env_error)
    message = refused(capsys, *collect_command(out, episodes=40))
    assert re.search(
        r"got RuntimeError: the gripper is on fire with seeds \d+, \d+, \d+, ", message
    )
    assert open_dataset(out).info.total_episodes > 0


def test_collect_env_error_at_first_step_leaves_the_folder_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    call_at_step(monkeypatch, 1, raise_env_error)
    refused(capsys, *collect_command(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_collect_ctrl_c_keeps_demonstrations_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    out = tmp_path / "data"
    call_at_step(monkeypatch, 3, press_ctrl_c)
    command = [*collect_command(out, episodes=400), "--num-envs", "20"]
    message = refused(capsys, *command, code=130)
    num_episodes = open_dataset(out).info.total_episodes
    assert 0 < num_episodes <= 20
    sentence = f"everything is written; {out} holds {num_episodes} demonstrations, collect more"
    assert sentence in message


@pytest.mark.parametrize("after", [0, 2, 4])
def test_collect_full_disk_is_refused(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    fill_disk(monkeypatch, os, "fsync", after)
    message = refused(capsys, *collect_command(tmp_path / "data"))
    assert "must be on a disk that can be written, got No space left on device" in message
