"""nearer eval: misleading comparisons are refused, failures keep the earlier evaluation."""

import re
from pathlib import Path

import pytest

from commands.faults import (
    call_at_step,
    edit_json,
    file_contents,
    fill_disk,
    press_ctrl_c,
    truncate,
)
from commands.tiny_runs import ENV_ID
from nearer.cli import main
from nearer.core.spaces import Camera, Spaces
from nearer.envs.tabletop.language import vocabulary
from nearer.evaluation.perception_document import read_frames, read_perception, write_perception
from nearer.models.factory import new_model
from nearer.models.settings import SmallVLAConfig
from nearer.models.small_vla import SmallVLA
from nearer.runs.checkpoint import save_checkpoint
from perception_values import frame_images, perception_of
from refusals import refused

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def command(workspace: Path) -> list[str]:
    """Return a command that evaluates the Stage-1 policy from four starts."""
    checkpoint = str(workspace / "sft")
    settings = ["--episodes", "4", "--max-steps", "20", "--seed", "0"]
    return ["eval", "--checkpoint", checkpoint, "--env", ENV_ID, *settings]


@pytest.fixture
def evaluation(command: list[str], workspace: Path) -> Path:
    """Return the eval_info.json that the command has written."""
    main(command)
    return workspace / "sft/eval/eval_info.json"


@pytest.mark.parametrize(
    ("flag", "value"), [("--seed", "1"), ("--episodes", "5"), ("--max-steps", "30")]
)
def test_eval_against_other_settings_is_refused(
    flag: str, value: str, command: list[str], evaluation: Path, workspace: Path, capsys: Capture
) -> None:
    before = file_contents(workspace)
    command[command.index(flag) + 1] = value
    message = refused(capsys, *command, "--against", evaluation)
    assert "must have the same seed, number of episodes and time limit, got 0, 4 and 20" in message
    assert file_contents(workspace) == before


def test_eval_against_missing_evaluation_is_refused(
    command: list[str], workspace: Path, capsys: Capture
) -> None:
    before = file_contents(workspace)
    message = refused(capsys, *command, "--against", workspace / "none")
    sentence = "none.*eval_info.json must be .*; make it with nearer eval --checkpoint"
    assert re.search(sentence, message)
    assert file_contents(workspace) == before


def test_eval_against_other_env_is_refused(
    command: list[str], evaluation: Path, capsys: Capture
) -> None:
    edit_json(evaluation, env="other/Env-v0")
    message = refused(capsys, *command, "--against", evaluation)
    assert f"must be an evaluation in {ENV_ID}, got one in other/Env-v0" in message


def test_eval_against_incomplete_evaluation_is_refused(
    command: list[str], evaluation: Path, capsys: Capture
) -> None:
    edit_json(evaluation, episodes=[{"seed": 1}])
    message = refused(capsys, *command, "--against", evaluation)
    assert "as this version of nearer writes it, with episodes[0].instruction" in message


def test_eval_against_truncated_evaluation_is_refused(
    command: list[str], evaluation: Path, capsys: Capture
) -> None:
    truncate(evaluation)
    message = refused(capsys, *command, "--against", evaluation)
    assert "must be a JSON file of a run, got" in message


@pytest.mark.usefixtures("faulty_envs")
@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("NotFinite", "must observe finite numbers, got nan in agent_pos; mend the env"),
        ("OtherShape", r"must observe 2 numbers as environment_state, .*, got shape \(3,\);"),
    ],
)
def test_eval_wrong_observation_is_refused(
    env: str, sentence: str, workspace: Path, capsys: Capture
) -> None:
    before = file_contents(workspace)
    command = ["eval", "--checkpoint", workspace / "sft", "--env", f"test/{env}-v0"]
    message = refused(capsys, *command, "--episodes", "4")
    assert re.search(f"test/{env}-v0 {sentence}", message)
    after = file_contents(workspace)
    assert {name: after[name] for name in before} == before


@pytest.mark.usefixtures("faulty_envs")
def test_eval_env_error_with_traceback_wanted_shows_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("NEARER_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        main(["eval", "--checkpoint", str(workspace / "sft"), "--env", "test/FailsAtOnce-v0"])
    message = capsys.readouterr().err
    assert "in raise_env_error" in message
    last_line = message.splitlines()[-1]
    assert last_line.startswith("nearer: test/FailsAtOnce-v0 must step without an error")


@pytest.mark.usefixtures("evaluation")
def test_eval_ctrl_c_keeps_the_earlier_evaluation(
    command: list[str], workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = file_contents(workspace)
    call_at_step(monkeypatch, 3, press_ctrl_c)
    message = refused(capsys, *command, code=130)
    assert "stopped by Ctrl-C; what was finished is written, run the command again" in message
    assert file_contents(workspace) == before


@pytest.mark.usefixtures("evaluation")
def test_eval_full_disk_keeps_the_earlier_evaluation(
    command: list[str], workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = file_contents(workspace)
    fill_disk(monkeypatch, Path, "write_text")
    message = refused(capsys, *command)
    assert "eval_info.json must be on a disk that can be written" in message
    assert file_contents(workspace) == before


def test_eval_of_an_encoder_that_locates_objects_records_perception(tmp_path: Path) -> None:
    spaces = Spaces(
        agent_pos=2,
        environment_state=0,
        action=2,
        cameras=(Camera("front", 96, 128),),
        control_hz=5,
    )
    model = new_model("small-vla", SmallVLAConfig(hidden=8), spaces, vocabulary(), seed=0)
    assert isinstance(model, SmallVLA)
    model.planar_features.uses_proprioception.fill_(True)
    save_checkpoint(tmp_path / "000001", model, None)
    env = "nearer/TabletopBlock2Block-v0"
    settings = ["--episodes", "2", "--max-steps", "2", "--videos", "0"]
    main(["eval", "--checkpoint", str(tmp_path / "000001"), "--env", env, *settings])
    folder = tmp_path / "000001/eval"
    perception = read_perception(folder)
    assert perception is not None
    assert (perception.env, perception.first.all.frames) == (env, 6)
    assert len(read_frames(folder, perception)) == len(perception.frames) == 2 * 3 + 2


def test_eval_where_nothing_is_recorded_removes_an_earlier_perception(
    command: list[str], workspace: Path
) -> None:
    folder = workspace / "sft/eval"
    write_perception(folder, perception_of(1), frame_images(1))
    main(command)
    assert not list(folder.glob("perception.*"))
