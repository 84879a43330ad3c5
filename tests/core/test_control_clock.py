"""The clock keeps its rate, counts what it misses, and never hurries to make up for it."""

import time

import pytest

from nearer.core.control_clock import ClockSummary, ControlClock
from nearer.core.errors import ConfigError


class Hands:
    """A clock that moves when it is told to, and oversleeps by `late_s`."""

    def __init__(self) -> None:
        self.time_s = 100.0
        self.late_s = 0.0
        self.slept_s: list[float] = []

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.time_s += seconds + self.late_s


def clock_of(hands: Hands, kept: int = 100) -> ControlClock:
    return ControlClock(0.1, now=hands.now, sleep=hands.sleep, kept=kept)


def test_wait_sleeps_for_what_is_left_of_the_period() -> None:
    hands = Hands()
    clock = clock_of(hands)
    for work_s in (0.03, 0.0, 0.1):
        hands.time_s += work_s
        assert clock.wait()
    assert hands.slept_s == pytest.approx([0.07, 0.1, 0.0])
    assert hands.time_s == pytest.approx(100.3)
    summary = clock.summary()
    assert (summary.periods, summary.missed) == (3, 0)
    assert summary.p99_ms == pytest.approx(0, abs=1e-6)


def test_oversleeping_does_not_add_up() -> None:
    hands = Hands()
    hands.late_s = 0.002
    clock = clock_of(hands)
    for _ in range(50):
        clock.wait()
    assert hands.time_s == pytest.approx(105.002)
    assert clock.summary().p50_ms == pytest.approx(2)
    assert clock.summary().missed == 0


def test_no_period_after_a_missed_deadline_is_short() -> None:
    hands = Hands()
    clock = clock_of(hands)
    ends_s: list[float] = []
    for work_s in (0.05, 0.57, 0.01, 0.19, 0.0):
        hands.time_s += work_s
        clock.wait()
        ends_s.append(hands.time_s)
    assert ends_s == pytest.approx([100.1, 100.67, 100.77, 100.96, 101.06])
    summary = clock.summary()
    assert (summary.periods, summary.missed) == (5, 2)
    assert summary.p99_ms == pytest.approx(470, rel=0.05)


def test_start_forgets_the_time_before_it() -> None:
    hands = Hands()
    clock = clock_of(hands)
    hands.time_s += 60
    clock.start()
    assert clock.wait()
    assert hands.slept_s == pytest.approx([0.1])


def test_only_the_latest_jitter_is_kept() -> None:
    hands = Hands()
    clock = clock_of(hands, kept=3)
    hands.time_s += 5
    clock.wait()
    for _ in range(3):
        clock.wait()
    summary = clock.summary()
    assert (summary.periods, summary.missed) == (4, 1)
    assert summary.p99_ms == pytest.approx(0, abs=1e-6)


def test_sleep_that_is_woken_ends_the_period() -> None:
    hands = Hands()
    clock = ControlClock(0.1, now=hands.now, sleep=lambda _: None)
    assert clock.wait()
    assert hands.time_s == 100.0


def test_summary_before_the_first_period_is_zero() -> None:
    assert ControlClock(0.1).summary() == ClockSummary(periods=0, missed=0, p50_ms=0.0, p99_ms=0.0)


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan"), float("inf")])
def test_period_that_is_none_is_refused(period_s: float) -> None:
    with pytest.raises(ConfigError, match="must be a positive number of seconds"):
        ControlClock(period_s)


def test_real_clock_takes_as_long_as_it_should() -> None:
    clock = ControlClock(0.01)
    began_s = time.monotonic()
    for _ in range(10):
        clock.wait()
    assert time.monotonic() - began_s >= 0.099
    assert clock.summary().periods == 10
