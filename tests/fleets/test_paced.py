"""A paced fleet takes a period a control step; a reset takes none."""

import numpy as np

from nearer.core.control_clock import ControlClock
from nearer.fleets.paced import PacedFleet
from nearer.testing import CountingFleet


class Time:
    """A clock of the test's own."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_steps_take_a_period_each_and_a_reset_begins_one() -> None:
    time = Time()
    clock = ControlClock(0.1, now=lambda: time.now_s, sleep=time.sleep)
    fleet = PacedFleet(CountingFleet(2, 5), clock)
    both = np.arange(2)
    time.now_s = 7.0
    fleet.reset(both, [1, 2])
    for step in range(1, 4):
        fleet.step(both, np.zeros((2, 1), np.float32))
        assert np.isclose(time.now_s, 7.0 + 0.1 * step)
    assert (clock.summary().periods, clock.summary().missed) == (3, 0)
