"""nearer collect: what stops it leaves either whole demonstrations or a free folder."""

import os
import re
from pathlib import Path

import pytest

from commands.faults import call_at_step, fill_disk, press_ctrl_c, raise_env_error
from commands.tiny_runs import ENV_ID
from nearer.cli import main
from nearer.commands import collect
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.lerobot.writer import DatasetWriter
from nearer.runs.json_files import read_lines
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
    sentence = f"everything is written; {out} holds {num_episodes} demonstrations, continue "
    assert sentence in message
    assert f"with nearer collect --resume --out {out}" in message


def full_disk(writer: DatasetWriter, episodes: object) -> None:
    raise DatasetError("the disk is full")


def episodes_of(root: Path) -> dict[bytes, bytes]:
    """Return what each episode's robot did, by where it started; starts differ."""
    dataset = open_dataset(root)
    bounds = zip(dataset.episode_starts, dataset.episode_lengths, strict=True)
    parts = [slice(start, start + length) for start, length in bounds]
    state, actions = dataset.columns["observation.state"], dataset.columns["action"]
    return {state[part][0].tobytes(): actions[part].tobytes() for part in parts}


def test_collect_resumed_has_the_episodes_of_a_collection_that_was_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "data"
    # A time limit at which some fail: what failed must not be tried again.
    options = ["--num-envs", "20", "--max-steps", "22"]
    main([*map(str, collect_command(whole, episodes=60)), *options])
    monkeypatch.setattr(collect, "_EPISODES_A_BLOCK", 5)
    with pytest.MonkeyPatch.context() as patch:
        call_at_step(patch, 12, press_ctrl_c)
        refused(capsys, *collect_command(out, episodes=60), *options, code=130)
    with pytest.MonkeyPatch.context() as patch:
        # The next block's seeds are on the disk, and its episodes are not.
        patch.setattr(DatasetWriter, "append", full_disk)
        refused(capsys, "collect", "--resume", "--out", out)
    main(["collect", "--resume", "--out", str(out)])
    assert 0 < len(episodes_of(whole)) < 60
    assert episodes_of(out) == episodes_of(whole)
    assert open_dataset(out).info.total_episodes == len(episodes_of(whole))
    assert f"{len(episodes_of(whole))} demonstrations of 60 tried" in capsys.readouterr().out
    tried = read_lines(out / "attempts.jsonl")
    main(["collect", "--resume", "--out", str(out)])
    assert read_lines(out / "attempts.jsonl") == tried, "there is nothing left to try"


def test_collect_resume_with_another_setting_or_nothing_there_is_refused(
    tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "data"
    assert "run.json must be" in refused(capsys, "collect", "--resume", "--out", out)
    main(list(map(str, collect_command(out))))
    message = refused(capsys, "collect", "--resume", "--out", out, "--seed", "3")
    assert "as it was started, with seed = 0, got 3" in message


@pytest.mark.parametrize("after", [0, 2, 4])
def test_collect_full_disk_is_refused(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    fill_disk(monkeypatch, os, "fsync", after)
    message = refused(capsys, *collect_command(tmp_path / "data"))
    assert re.search("must be on a disk that can be written, got:? No space left", message)
