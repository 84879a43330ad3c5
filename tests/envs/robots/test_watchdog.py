"""The watchdog holds a robot that hears nothing, and stops it within a period, whatever happens."""

import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from nearer.core.errors import ConfigError
from nearer.envs.robots.watchdog import RobotStopped, Watchdog

PERIOD_S = 0.1
DEADLINE_S = 0.3


class Robot:
    """Notes what it is told and when; two calls at once are noted too."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []
        self.overlaps = 0
        self.hold_takes_s = 0.0
        self.failures = 0
        self._busy = False

    def command(self, takes_s: float = 0.0) -> None:
        self._call("command", takes_s)

    def hold(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("a packet was lost")
        self._call("hold", self.hold_takes_s)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def _call(self, name: str, takes_s: float) -> None:
        self.overlaps += self._busy
        self._busy = True
        time.sleep(takes_s)
        self._busy = False
        self.calls.append((name, time.monotonic()))


@contextmanager
def watched(robot: Robot, **settings: object) -> Generator[Watchdog, None, None]:
    watchdog = Watchdog(robot.hold, deadline_s=DEADLINE_S, period_s=PERIOD_S, **settings)  # type: ignore[arg-type]
    try:
        yield watchdog
    finally:
        watchdog.close()


def act(watchdog: Watchdog, robot: Robot, takes_s: float = 0.0) -> None:
    with watchdog.commanding():
        robot.command(takes_s)


def test_robot_is_held_once_when_no_action_comes_in_time() -> None:
    robot = Robot()
    with watched(robot) as watchdog:
        time.sleep(2 * DEADLINE_S)
        assert robot.calls == []
        for _ in range(2):
            act(watchdog, robot)
            assert not watchdog.holding
            time.sleep(3 * DEADLINE_S)
            assert watchdog.holding
        assert robot.names() == ["command", "hold"] * 2
        assert watchdog.counts().holds == 2
        assert watchdog.stopped is None


def test_robot_that_hears_in_time_is_not_held() -> None:
    robot = Robot()
    with watched(robot) as watchdog:
        for _ in range(8):
            act(watchdog, robot)
            time.sleep(PERIOD_S)
        assert robot.names() == ["command"] * 8


def test_stop_acts_within_a_period_while_the_main_thread_is_blocked() -> None:
    robot = Robot()
    with watched(robot) as watchdog:
        took_s: list[float] = []
        for _ in range(5):
            act(watchdog, robot)
            asked_s = time.monotonic() + 0.05
            timer = threading.Timer(0.05, watchdog.stop, ["operator"])
            timer.start()
            time.sleep(0.28)  # below the deadline: it is the stop that holds the robot
            name, held_s = robot.calls[-1]
            assert name == "hold"
            took_s.append(held_s - asked_s)
            watchdog.release()
        assert sorted(took_s)[2] <= PERIOD_S
        assert watchdog.counts().stops == 5
        assert watchdog.counts().slowest_stop_ms > 0


def test_stopped_robot_moves_no_more_until_it_is_released() -> None:
    robot = Robot()
    with watched(robot) as watchdog:
        act(watchdog, robot)
        watchdog.stop("operator")
        watchdog.stop("somebody else")
        assert watchdog.stopped == "operator"
        with pytest.raises(RobotStopped, match="got one that operator stopped; look at it"):
            act(watchdog, robot)
        assert watchdog.wait_stopped(1.0)
        watchdog.release()
        act(watchdog, robot)
        assert robot.names() == ["command", "hold", "command"]


def test_stop_does_not_wait_for_a_call_that_hangs() -> None:
    robot = Robot()
    with watched(robot) as watchdog:
        act(watchdog, robot)
        threading.Timer(0.05, watchdog.stop, ["operator"]).start()
        began_s = time.monotonic()
        with watchdog.reading():
            time.sleep(5 * PERIOD_S)  # a camera that does not answer
        held_s = [at for name, at in robot.calls if name == "hold"]
        assert held_s[0] - began_s < 4 * PERIOD_S
        time.sleep(2 * PERIOD_S)
        assert robot.names() == ["command", "hold", "hold"]
        assert watchdog.counts().beside == 1


def test_command_that_hung_during_a_stop_is_followed_by_a_hold() -> None:
    robot = Robot()
    with watched(robot) as watchdog:
        threading.Timer(0.05, watchdog.stop, ["operator"]).start()
        act(watchdog, robot, takes_s=5 * PERIOD_S)
        time.sleep(2 * PERIOD_S)
        assert robot.names() == ["hold", "command", "hold"]


def test_hold_that_fails_is_tried_again() -> None:
    robot = Robot()
    with watched(robot) as watchdog:
        act(watchdog, robot)
        robot.failures = 2
        watchdog.stop("operator")
        assert watchdog.wait_stopped(1.0)
        assert robot.names() == ["command", "hold"]
        assert watchdog.counts().failed == 0


@pytest.mark.parametrize(("failures", "takes_s"), [(99, 0.0), (0, 10 * PERIOD_S)])
def test_hold_that_does_not_work_cuts_the_robot_off(failures: int, takes_s: float) -> None:
    robot, cut = Robot(), threading.Event()
    with watched(robot, cut=cut.set) as watchdog:
        act(watchdog, robot)
        robot.failures, robot.hold_takes_s = failures, takes_s
        watchdog.stop("operator")
        assert cut.wait(5 * PERIOD_S)
        assert watchdog.counts().failed == 1
        robot.failures = 0


def test_close_holds_a_robot_that_may_move_and_no_other() -> None:
    moved, still = Robot(), Robot()
    with watched(moved) as watchdog:
        act(watchdog, moved)
        watchdog.close()
        watchdog.close()
    assert moved.names() == ["command", "hold"]
    with watched(still):
        pass
    assert still.names() == []


def act_often(watchdog: Watchdog, robot: Robot) -> None:
    for _ in range(1000):
        act(watchdog, robot, takes_s=0.002)


def test_robot_hears_one_call_at_a_time() -> None:
    robot = Robot()
    with watched(robot) as watchdog:
        threading.Timer(0.4, watchdog.stop, ["operator"]).start()
        with pytest.raises(RobotStopped):
            act_often(watchdog, robot)
        time.sleep(2 * PERIOD_S)
        assert robot.overlaps == 0
        assert robot.names()[-1] == "hold"
        assert robot.names().count("hold") == 1


ENDS = """
from nearer.envs.robots.watchdog import Watchdog
watchdog = Watchdog(lambda: print("held", flush=True), deadline_s=60, period_s=0.05)
with watchdog.commanding():
    pass
raise SystemExit("the learner is gone")
"""


def test_program_that_ends_holds_its_robot() -> None:
    ran = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True)
    assert ran.stdout == "held\n"
    assert "the learner is gone" in ran.stderr


@pytest.mark.parametrize("deadline_s", [0.0, 0.05, float("inf"), float("nan")])
def test_deadline_below_a_period_is_refused(deadline_s: float) -> None:
    with pytest.raises(ConfigError, match=r"deadline must be a control period of 0.1 s or more"):
        Watchdog(Robot().hold, deadline_s=deadline_s, period_s=PERIOD_S)
