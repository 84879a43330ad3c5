"""Envs of other packages on the command line: settings, keys, instructions, success, rates."""

import json
import re
from pathlib import Path

import pytest

from commands.faults import file_contents
from commands.tiny_runs import TINY_IMPROVE, TINY_SFT
from nearer.cli import main
from nearer.datasets.lerobot.reader import open_dataset
from nearer.evaluation.person_audit import audits_of, read_questions
from nearer.runs.documents import read_header
from nearer.runs.ledger import ANSWER, LEDGER, Entry, Ledger
from refusals import refused

Capture = pytest.CaptureFixture[str]
FOREIGN = [
    *("--env", "test/Foreign-v0", "--env-kwargs", "done_after=15"),
    *("--rename", "robot=agent_pos", "goal=environment_state"),
]
SILENT = "test/Silent-v0"

pytestmark = pytest.mark.usefixtures("faulty_envs")


def test_foreign_env_goes_through_every_command_with_the_same_flags(
    workspace: Path, capsys: Capture
) -> None:
    def run(*arguments: object) -> None:
        main([str(argument) for argument in arguments])

    data, sft, practised = (workspace / name for name in ("foreign", "stage1", "stage2"))
    instruction = ["--instruction", "go to the goal"]
    run("collect", *FOREIGN, *instruction, "--episodes", 6, "--num-envs", 2, "--out", data)
    dataset = open_dataset(data)
    assert dataset.tasks == ("go to the goal",)
    assert dataset.info.fps == 10
    assert dataset.episode_lengths.tolist() == [16] * 6  # done after 15 steps, as it was set
    run("sft", "--data", data, "--out", sft, *TINY_SFT)
    run("improve", "--run", sft, "--out", practised, *TINY_IMPROVE, *FOREIGN)
    settings = read_header(practised).config["env_settings"]
    assert isinstance(settings, dict)
    assert settings["env_kwargs"] == ["done_after=15"]
    practice = open_dataset(practised / "practice")
    assert practice.tasks == ("go to the goal",)  # the only one of the data
    run("eval", "--checkpoint", practised, *FOREIGN, "--episodes", 4)
    info = json.loads((practised / "eval/eval_info.json").read_text())
    assert info["env_kwargs"] == {"done_after": 15}
    assert info["overall"]["n_success"] == 4
    assert list(info["per_task"]) == ["go to the goal"]
    run("improve", "--resume", "--out", practised)
    again = ["eval", "--checkpoint", sft, "--against", practised / "eval", "--episodes", 4]
    other = [*FOREIGN[:2], "--env-kwargs", "done_after=9", *FOREIGN[4:]]
    message = refused(capsys, *again, *other)
    assert "an evaluation with --env-kwargs done_after=9, got one with done_after=15" in message


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--env-kwargs", "colour=red"], "got colour; it has obs_type, done_after"),
        (["--rename", "joints=agent_pos"], "must name what the env observes, got 'joints'; it obs"),
        ([], r"--env-kwargs obs_type=\.\.\. \(now other\), or name yours with --rename"),
        (["--rename", "robot=agent_pos"], "must have the spaces of the checkpoint"),
    ],
)
def test_foreign_env_that_cannot_be_read_says_which_flag_helps(
    flags: list[str], sentence: str, workspace: Path, capsys: Capture
) -> None:
    command = ["eval", "--checkpoint", workspace / "sft", "--env", "test/Foreign-v0", *flags]
    assert re.search(sentence, refused(capsys, *command))


def test_env_that_never_reports_success_is_refused_where_success_is_measured(
    workspace: Path, capsys: Capture
) -> None:
    before = file_contents(workspace)
    run, data, out = workspace / "sft", workspace / "data", workspace / "out"
    commands = [
        ["eval", "--checkpoint", run, "--env", SILENT, "--out", out],
        ["collect", "--env", SILENT, "--out", out],
        ["sft", "--data", data, "--out", out, *TINY_SFT, "--calibration.env", SILENT],
    ]
    for command in commands:
        message = refused(capsys, *command)
        assert f"{SILENT} must report is_success (or success) in the info of every step" in message
        assert not out.exists() or not list(out.iterdir())
    assert file_contents(workspace) == before


def test_practice_needs_no_success_but_its_audits_do(workspace: Path, capsys: Capture) -> None:
    start = ["improve", "--run", workspace / "sft", *TINY_IMPROVE, "--env", SILENT]
    message = refused(capsys, *start, "--out", workspace / "audited")
    assert "or do without ground truth (nearer improve --audits person, or --audit-every 0)" in (
        message
    )
    practised = workspace / "practised"
    main([str(part) for part in (*start, "--out", practised, "--audit-every", "0")])
    assert (practised / "FINISHED").exists()


def test_a_person_audits_practice_where_no_env_knows_of_success(
    workspace: Path, capsys: Capture
) -> None:
    run = workspace / "practised"
    start = ["improve", "--run", workspace / "sft", *TINY_IMPROVE, "--env", SILENT]
    main([str(part) for part in (*start, "--out", run, "--audits", "person")])
    assert "audits     none: whether the detections were right is not known" in (
        capsys.readouterr().out
    )
    assert not (run / "audits.jsonl").exists()
    questions = [one for asked in read_questions(run) for one in asked.questions]
    assert questions
    ledger = Ledger(run / LEDGER)
    for one in questions:
        entry = Entry(
            key=str(one.number),
            at_s=0.0,
            who="operate@here",
            action=f"{ANSWER}yes",
            robot=one.robot,
            episode=None,
            question=one.number,
            seen="",
            note="",
        )
        ledger.add(entry)
    main(["report", str(run)])
    report = (workspace / "report.html").read_text()
    assert f"n = {len(questions)}" in report
    detected = sum(one.detected for one in questions)
    assert sum(audit.num_correct_detections for audit in audits_of(run)) == detected


def test_env_without_an_instruction_and_a_rate_asks_for_them(
    workspace: Path, capsys: Capture
) -> None:
    out = workspace / "out"
    message = refused(capsys, "collect", *FOREIGN, "--out", out)
    assert 'got none; say what to do with --instruction "..."' in message
    assert not out.exists()


def test_env_that_does_not_repeat_is_measured_without_videos(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, env = workspace / "sft", "test/Unrepeatable-v0"
    main(["eval", "--checkpoint", str(run), "--env", env, "--episodes", "2", "--max-steps", "3"])
    assert json.loads((run / "eval/eval_info.json").read_text())["overall"]["n_episodes"] == 2
    (message,) = caplog.messages
    assert message.startswith("there are no videos: a replay must repeat the recorded episode")
    assert not list((run / "eval/videos").glob("*"))
