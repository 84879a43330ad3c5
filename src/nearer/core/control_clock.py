"""A clock that keeps a control loop at its rate, and measures how well it did.

clock = ControlClock(period_s=1 / 30)
clock.start()
while True:
    act()
    clock.wait()
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nearer.core.errors import ConfigError

_KEPT = 10_000
"""Periods whose jitter is kept: five minutes at 30 Hz, 80 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSummary:
    """How well a control loop kept its rate.

    Jitter is how long after its deadline a period ended, whether the clock overslept or the loop
    came too late.

    Attributes:
        periods: that have ended.
        missed: those whose deadline had passed before the loop came to wait.
        p50_ms: median jitter of the latest periods; 0 before the first.
        p99_ms: 99 % quantile of it.
    """

    periods: int
    missed: int
    p50_ms: float
    p99_ms: float


class ControlClock:
    """Ends each control period at its deadline, one period after the last one.

    After a missed deadline the next one is a whole period after now. So nothing is made up for:
    whoever sends an action a period never sends two within less than one.
    """

    def __init__(
        self,
        period_s: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        kept: int = _KEPT,
    ) -> None:
        """Start at once.

        Args:
            period_s: control period, seconds.
            now: a clock that never goes back, seconds.
            sleep: waits so many seconds; one that returns earlier ends the period earlier.
            kept: periods whose jitter is remembered for `summary`.
        """
        if not 0 < period_s < float("inf"):
            raise ConfigError(
                f"period_s must be a positive number of seconds, got {period_s}; pass 1 / fps"
            )
        self.period_s = period_s
        self._now = now
        self._sleep = sleep
        self._periods = 0
        self._missed = 0
        self._jitter_s: deque[float] = deque(maxlen=kept)
        self._deadline_s = now() + period_s

    def start(self) -> None:
        """Begin a period now, as after a reset: what happened before is no delay."""
        self._deadline_s = self._now() + self.period_s

    def wait(self) -> bool:
        """Sleep until the period ends, begin the next, and return whether it ended in time."""
        left_s = self._deadline_s - self._now()
        in_time = left_s >= 0
        if in_time:
            self._sleep(left_s)
        now_s = self._now()
        self._periods += 1
        self._missed += not in_time
        self._jitter_s.append(max(0.0, now_s - self._deadline_s))
        self._deadline_s = (self._deadline_s if in_time else now_s) + self.period_s
        return in_time

    @property
    def periods(self) -> int:
        """Count the periods that have ended."""
        return self._periods

    @property
    def missed(self) -> int:
        """Count those whose deadline had passed before the loop came to wait."""
        return self._missed

    def summary(self) -> ClockSummary:
        """Return counts since the clock was made, and the jitter of the latest periods."""
        jitter_ms = 1000 * np.array(self._jitter_s or [0.0])
        return ClockSummary(
            periods=self._periods,
            missed=self._missed,
            p50_ms=float(np.quantile(jitter_ms, 0.5)),
            p99_ms=float(np.quantile(jitter_ms, 0.99)),
        )
