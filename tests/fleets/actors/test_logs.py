"""What a run keeps of faults and of control rates, and what people read of them."""

from pathlib import Path

import pytest

from nearer.core.control_clock import ClockSummary
from nearer.core.errors import ConfigError
from nearer.fleets.actors.control_log import CONTROL, ControlLog, read_control
from nearer.fleets.actors.faults import FAULTS, Fault, FaultLog, FaultPlan, now, read_faults


def fault(again_in_s: float | None) -> Fault:
    return Fault(
        time=now(),
        actor=1,
        robots=(2, 3),
        kind="hung",
        sentence="a step took more than 60 s",
        iteration=4,
        dropped_episodes=2,
        again_in_s=again_in_s,
    )


def test_faults_are_reported_and_read_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = FaultLog(tmp_path / FAULTS)
    faults = [fault(1.0), fault(None)]
    for one in faults:
        log.report(one)
    assert read_faults(tmp_path / FAULTS) == faults
    again, alone = caplog.messages
    assert again == (
        "robots 2, 3 have failed (hung): a step took more than 60 s; 2 unfinished episodes are "
        "dropped, it is started again in 1 s"
    )
    assert "it is left alone for the rest of the run" in alone
    assert read_faults(tmp_path / "none.jsonl") == []


def test_rests_double_up_to_a_minute() -> None:
    plan = FaultPlan(first_wait_s=2.0)
    assert [plan.wait_s(in_a_row) for in_a_row in (1, 2, 3, 6, 500)] == [2, 4, 8, 60, 60]


def test_a_robot_that_is_away_for_a_minute_is_not_given_up() -> None:
    plan = FaultPlan()
    assert sum(plan.wait_s(in_a_row) for in_a_row in range(1, plan.most_in_a_row + 1)) > 300


def test_control_is_summed_over_actors_and_shows_the_worst(tmp_path: Path) -> None:
    log = ControlLog(tmp_path / CONTROL)
    good = ClockSummary(periods=1000, missed=0, p50_ms=0.1, p99_ms=0.9)
    bad = ClockSummary(periods=500, missed=7, p50_ms=0.2, p99_ms=30.04)
    log.report(3, [good, bad])
    (record,) = read_control(tmp_path / CONTROL)
    assert (record.iteration, record.actors) == (3, 2)
    assert record.line == (
        "control    7 of 1,500 control periods missed; jitter of the worst of 2 actors 0.2 ms "
        "(p50), 30.0 ms (p99)"
    )


def test_a_damaged_control_log_is_a_sentence(tmp_path: Path) -> None:
    line = '{"iteration": 0, "actors": 1, "periods": 1, "missed": 2, "p50_ms": 0, "p99_ms": 0}\n'
    (tmp_path / CONTROL).write_text(line + line)
    with pytest.raises(ConfigError, match="missed must lie between 0 and all periods"):
        read_control(tmp_path / CONTROL)
