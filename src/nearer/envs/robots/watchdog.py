"""A thread beside the robot that holds it when no action comes in time, and stops it when asked.

    watchdog = Watchdog(robot.hold, deadline_s=0.2, period_s=1 / 30)
    with watchdog.commanding():  # refuses once the robot is stopped
        robot.command(action)
    with watchdog.reading():
        robot.observe()
    watchdog.stop("operator")  # from any thread or signal handler; returns at once

Whatever the main thread does, the watchdog's own thread looks four times a period. It does not call
the robot while another call is under way, but for one that takes too long: then it holds the robot
beside that call, and again when the call is over.

What it cannot do: act once the process was killed (kill -9), or while a library keeps Python's
global lock. So a learner belongs in another process than the robot.
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from nearer.core.errors import ConfigError, EnvError

_LOG = logging.getLogger(__name__)
_LOOKS = 4  # a period
_WAITS_FOR_CALL = 0.4  # of a period: with a look there is a third of it left for `hold`
_ATTEMPTS = 3  # a serial bus loses a packet now and then
_LONGEST_CALL_S = 10.0
_CLOSE = "close"


class RobotStopped(EnvError):
    """A command was not sent, since the robot is stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogCounts:
    """What a watchdog did.

    Attributes:
        holds: times that no action came in time; a pause between episodes is one of them.
        stops: calls of `stop` that found a robot that might move.
        beside: holds beside another call of the robot that took too long.
        failed: holds that raised an error, or did not return within a period.
        slowest_stop_ms: from a call of `stop` until `hold` had returned; 0 before the first.
    """

    holds: int
    stops: int
    beside: int
    failed: int
    slowest_stop_ms: float


class Watchdog:
    """Holds and stops one robot, until `close` or the end of the program."""

    def __init__(
        self,
        hold: Callable[[], object],
        *,
        deadline_s: float,
        period_s: float,
        cut: Callable[[], object] | None = None,
    ) -> None:
        """Watch from the first action on.

        Args:
            hold: lets the robot stay where it is; called in threads of the watchdog.
            deadline_s: an action must come within so many seconds of the last one.
            period_s: control period, seconds; `stop` acts within one.
            cut: a second way to stop, such as a relay, for a `hold` that fails or does not return.

        Raises:
            ConfigError: the deadline is shorter than a period.
        """
        if not 0 < period_s <= deadline_s < float("inf"):
            raise ConfigError(
                f"the watchdog's deadline must be a control period of {period_s:.3g} s or more, "
                f"got {deadline_s} s; pass three periods"
            )
        self._hold, self._cut = hold, cut
        self._deadline_s, self._period_s = deadline_s, period_s
        self._calls = threading.Lock()  # around every call of the robot
        self._last_action_s: float | None = None  # None: the robot was not moved, or is held
        self._reason: str | None = None
        self._asked_s = 0.0
        self._asked = self._answered = 0  # stops
        self._again = self._closed = False
        self._holds = self._stops = self._beside = self._failed = 0
        self._slowest_stop_s = 0.0
        self._thread = threading.Thread(target=self._watch, name="robot watchdog", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def stopped(self) -> str | None:
        """Return why the robot is stopped; None: it is not."""
        return self._reason

    @property
    def holding(self) -> bool:
        """Tell whether the robot has had no action since the start, or since it was held."""
        return self._last_action_s is None

    def stop(self, reason: str) -> None:
        """Hold the robot within a control period, and send it nothing until `release`.

        It waits for nothing: it may be called in a signal handler, in any thread, and while a call
        of the robot hangs. The first reason counts.
        """
        if self._reason is None:
            self._asked_s = time.monotonic()
            self._reason = reason
            self._asked += 1

    def wait_stopped(self, timeout_s: float) -> bool:
        """Wait until stops have been carried out, and return whether they were in time."""
        until_s = time.monotonic() + timeout_s
        while self._answered < self._asked and time.monotonic() < until_s:
            time.sleep(self._period_s / _LOOKS)
        return self._answered == self._asked

    def release(self) -> None:
        """Let a stopped robot move again: for people, who have looked at it."""
        self._reason = None

    @contextmanager
    def commanding(self) -> Generator[None, None, None]:
        """Send the robot an action inside this block.

        Raises:
            RobotStopped: it is stopped.
            EnvError: another call of it has not returned for ten seconds.
        """
        with self.reading():
            if self._reason is not None:
                raise RobotStopped(
                    f"a robot must be released before it moves, got one that {self._reason} "
                    "stopped; look at it, then call release()"
                )
            self._last_action_s = time.monotonic()
            yield
            self._last_action_s = time.monotonic()

    @contextmanager
    def reading(self) -> Generator[None, None, None]:
        """Read the robot's sensors inside this block.

        Raises:
            EnvError: another call of the robot has not returned for ten seconds.
        """
        if not self._calls.acquire(timeout=_LONGEST_CALL_S):
            raise EnvError(
                f"a call of the robot must return within {_LONGEST_CALL_S:.0f} s, got one that did "
                "not; check cable, power and driver"
            )
        try:
            yield
        finally:
            self._calls.release()

    def close(self) -> None:
        """Hold a robot that may move, and end the thread. Doing it twice is harmless."""
        if self._closed:
            return
        if not self.holding:
            self.stop(_CLOSE)
        self.wait_stopped(4 * self._period_s)
        self._closed = True
        self._thread.join(4 * self._period_s)
        atexit.unregister(self.close)

    def counts(self) -> WatchdogCounts:
        """Return what was done since the start."""
        return WatchdogCounts(
            holds=self._holds,
            stops=self._stops,
            beside=self._beside,
            failed=self._failed,
            slowest_stop_ms=1000 * self._slowest_stop_s,
        )

    def _watch(self) -> None:
        while not self._closed:
            time.sleep(self._period_s / _LOOKS)
            if not threading.main_thread().is_alive() and not self.holding:
                self.stop("the end of the program")
            if self._answered < self._asked:
                self._carry_out_stop()
            elif self._is_moved_again() and not self._calls.locked():
                self._again = False
                self._hold_robot(lambda: True)
            elif self._is_late():
                self._hold_robot(self._is_late)
                self._holds += self.holding

    def _is_late(self) -> bool:
        last_s = self._last_action_s
        return last_s is not None and time.monotonic() - last_s > self._deadline_s

    def _is_moved_again(self) -> bool:
        """Tell whether a call that was under way at a stop may have moved the robot since."""
        return self._reason is not None and (self._again or not self.holding)

    def _carry_out_stop(self) -> None:
        asked, reason = self._asked, self._reason
        if not self.holding:
            self._stops += 1
            self._hold_robot(lambda: True)
            took_s = time.monotonic() - self._asked_s
            self._slowest_stop_s = max(self._slowest_stop_s, took_s)
            level = logging.INFO if reason == _CLOSE else logging.WARNING
            _LOG.log(level, "the robot was stopped by %s, within %.0f ms", reason, 1000 * took_s)
        self._answered = asked

    def _hold_robot(self, is_due: Callable[[], bool]) -> None:
        """Hold the robot in a thread of its own; cut it off if that fails or does not return."""
        holder = _Holder(self._hold_locked, is_due)
        holder.start()
        holder.join(self._period_s)
        if holder.succeeded:
            return
        self._failed += 1
        _LOG.error("the robot must hold within a control period, and did not")
        if self._cut is not None:
            self._cut()

    def _hold_locked(self, is_due: Callable[[], bool]) -> bool:
        """Call `hold` under the lock, or without it if another call keeps it for too long."""
        locked = self._calls.acquire(timeout=_WAITS_FOR_CALL * self._period_s)
        try:
            if locked and not is_due():
                return True  # an action came while this waited
            self._beside += not locked
            self._again = not locked
            self._last_action_s = None
            return any(self._hold_once() for _ in range(_ATTEMPTS))
        finally:
            if locked:
                self._calls.release()

    def _hold_once(self) -> bool:
        try:
            self._hold()
        except Exception as error:
            _LOG.warning("the robot must hold without an error, got %r", error)
            return False
        return True


class _Holder(threading.Thread):
    """Holds the robot, and keeps whether that succeeded."""

    def __init__(
        self, hold: Callable[[Callable[[], bool]], bool], is_due: Callable[[], bool]
    ) -> None:
        super().__init__(name="robot hold", daemon=True)
        self.succeeded = False
        self._hold, self._is_due = hold, is_due

    def run(self) -> None:
        self.succeeded = self._hold(self._is_due)
