"""What an alarm does to practice: it ends, it chooses the policy, or it is only written down."""

from dataclasses import replace
from pathlib import Path

import pytest

from commands.test_resume import outcome
from commands.tiny_runs import TINY_IMPROVE
from nearer.algorithm.early_stopping import AlarmStop
from nearer.cli import main
from nearer.evaluation.audit import Audit
from nearer.evaluation.audit_settings import AuditPlan
from nearer.runs.checkpoint import linked_step
from nearer.runs.documents import read_header
from nearer.runs.metrics import read_metrics
from nearer.runs.run import is_finished
from nearer.studies.point_mass import point_mass
from nearer.studies.tabletop import tabletop
from refusals import refused

PRACTISE = [part for part in TINY_IMPROVE if part not in ("--on-alarm", "continue")]
EARLY = ["--min-recall", "1", "--min-trials", "1"]
"""With these the first audit raises an alarm: it sees one success, undetected."""


@pytest.fixture
def late_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the alarm in the second audit, in iteration 3."""

    def alarm(audits: list[Audit], plan: AuditPlan) -> str | None:
        return "the detector dreams" if audits[-1].iteration >= 2 else None

    monkeypatch.setattr("nearer.evaluation.audit.alarm", alarm)


def improve(workspace: Path, out: Path, *options: str) -> list[str]:
    return ["improve", "--run", str(workspace / "sft"), "--out", str(out), *PRACTISE, *options]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "practice"


def test_improve_alarm_stops_practice_and_names_the_policy_before_it(
    workspace: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, *improve(workspace, out, *EARLY), code=3)
    assert "ended practice in iteration 1: the detector's recall fell to" in message
    assert f"The last policy before it is {out}/checkpoints/000000, Stage 1's; see" in message
    assert f"nearer improve --resume --out {out} --on-alarm continue" in message
    assert not is_finished(out)
    stop = read_header(out).alarm
    assert stop is not None
    assert (stop.iteration, stop.policy_step, stop.kept) == (1, 0, False)
    assert "recall fell" in stop.alarm


def test_improve_alarm_says_what_audits_found(
    workspace: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(improve(workspace, out, *EARLY))
    said = capsys.readouterr().out
    record = read_metrics(out)[0]
    episodes = record["practice/iteration_episodes"]
    assert f"{record['practice/detected']} of {episodes} episodes detected" in said
    assert "the policy kept is Stage 1's" in said
    assert f"1 audit of {record['audit/episodes']} episodes in all: success 0." in said
    assert "precision  not known, no episode was detected" in said
    assert "recall     0.000 [0.000, 0.793] (n = 1)" in said
    assert "ALARM      once, last in iteration 1: the detector's recall fell" in said


@pytest.mark.usefixtures("late_alarm")
def test_improve_alarm_that_keeps_makes_the_policy_before_it_the_runs(
    workspace: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = out.with_name("stopped")
    refused(capsys, *improve(workspace, stopped), code=3)
    message = refused(capsys, *improve(workspace, out, "--on-alarm", "keep"), code=3)
    assert "ended practice in iteration 3: the detector dreams" in message
    assert f"{out}/checkpoints/000002, and the run keeps it" in message
    assert (linked_step(out, "policy"), linked_step(stopped, "policy")) == (2, 0)
    stop = AlarmStop(iteration=3, alarm="the detector dreams", policy_step=2, kept=True)
    assert read_header(out).alarm == stop
    assert read_header(stopped).alarm == replace(stop, kept=False)


@pytest.mark.usefixtures("late_alarm")
@pytest.mark.parametrize("how", ["stop", "keep"])
def test_improve_resumed_after_an_alarm_has_the_bits_of_a_run_that_went_on(
    how: str, workspace: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never_stopped = out.with_name("never")
    main(improve(workspace, never_stopped, "--on-alarm", "continue"))
    first = refused(capsys, *improve(workspace, out, "--on-alarm", how), code=3)
    again = refused(capsys, "improve", "--resume", "--out", out, code=3)
    assert again == first, "without --on-alarm continue it meets the same alarm"
    main(["improve", "--resume", "--out", str(out), "--on-alarm", "continue"])
    assert is_finished(out)
    assert outcome(out) == outcome(never_stopped)
    header = read_header(out)
    assert header.alarm is None
    assert header.config["audits"] == read_header(never_stopped).config["audits"]


def test_improve_report_and_card_say_that_ground_truth_had_a_say(
    workspace: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, *improve(workspace, out, *EARLY, "--on-alarm", "keep"), code=3)
    main(["report", str(out), "--out", str(out / "report.html")])
    page = (out / "report.html").read_text()
    assert "It ended practice, and the last policy before it is the run" in page
    capsys.readouterr()
    main(["card", str(out), "--name", "user/name"])
    card = capsys.readouterr().out
    assert "a person's answers, ended practice in iteration 1" in card
    assert "chose this policy" in card


def test_recipes_go_on_after_an_alarm(tmp_path: Path) -> None:
    for recipe in (tabletop(tmp_path, 0, None, True), point_mass(tmp_path, 0, None, True)):
        assert recipe.improve.audits.on_alarm == "continue"


def test_improve_detector_that_cannot_fire_is_told_before_and_after(
    workspace: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(improve(workspace, out, "--threshold", "0"))
    said = capsys.readouterr().out
    assert "the detector cannot fire at a threshold of 0 steps" in said
    assert "the detector rightly finds none of the" in said
    episodes = read_metrics(out)[-1]["practice/episodes"]
    assert f"0 of {episodes} episodes detected" in said
    assert "the policy kept is Stage 1's" in said
    assert "precision  not known, no episode was detected" in said
