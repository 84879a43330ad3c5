"""The section on robots: faults of each actor, and the control rate."""

from dataclasses import replace

from nearer.fleets.actors.control_log import ControlRecord
from nearer.fleets.actors.faults import Fault, FaultKind
from nearer.reporting.html.robots import robots
from nearer.reporting.html.run_data import Report, StageTwo
from report_values import EVIL, report_of, words


def fault(
    actor: int, kind: FaultKind, again_in_s: float | None, sentence: str = "motor 3 smokes"
) -> Fault:
    return Fault(
        time="2026-11-29T10:45:50.909+00:00",
        actor=actor,
        robots=(2 * actor, 2 * actor + 1),
        kind=kind,
        sentence=sentence,
        iteration=3,
        dropped_episodes=2,
        again_in_s=again_in_s,
    )


def page(run: StageTwo) -> str:
    return robots(report_of([], [run]))


def test_robots_that_never_failed_have_no_section(report: Report) -> None:
    assert robots(report) == ""


def test_robots_that_failed_have_a_row_an_actor(report: Report) -> None:
    faults = (fault(1, "hung", 1.0), fault(0, "raised", 1.0), fault(1, "died", None))
    text = words(page(replace(report.stage_two[0], faults=faults)))
    assert "practice 0 to 1 1 0 0 2 2026-11-29 10:45:50: motor 3 smokes started again" in text
    assert "practice 2 to 3 0 1 1 4 2026-11-29 10:45:50: motor 3 smokes left alone" in text


def test_robots_words_from_an_env_are_escaped(report: Report) -> None:
    html = page(replace(report.stage_two[0], faults=(fault(0, "raised", 1.0, EVIL),)))
    assert EVIL not in html
    assert EVIL in words(html)


def test_robots_that_are_paced_have_their_control_rate(report: Report) -> None:
    control = ControlRecord(iteration=4, actors=2, periods=6000, missed=3, p50_ms=0.17, p99_ms=5.49)
    text = words(page(replace(report.stage_two[0], control=control)))
    assert "practice 6,000 3 (0.1 %) 0.2 5.5" in text
