"""Robots that are watched: what is written of them, who is held, whose episode a person ends."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearer.algorithm.rollout import rollout
from nearer.core.control_clock import ControlClock
from nearer.core.episode import Ended, Observation, StepsToGoPrediction
from nearer.core.errors import EnvError
from nearer.core.interfaces import Sensed
from nearer.fleets.live import LiveFleet, LiveRobots, LiveTermination
from nearer.runs.live import (
    EndOrder,
    LiveRobot,
    Orders,
    give_orders,
    image_path,
    read_live,
    say_watched,
    write_live,
)
from nearer.testing import CountingFleet, CountTermination, EchoPolicy

ROBOTS = np.arange(2)


def until(holds: Callable[[], object]) -> None:
    for _ in range(500):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 5 s")


def live_robots(run: Path, clock: ControlClock | None = None) -> tuple[LiveFleet, LiveRobots]:
    live = LiveRobots(run, first_robot=4, num_robots=2, writes_s=0.01)
    return LiveFleet(CountingFleet(2, goal_steps=3), live, clock), live


def prediction(mean: float) -> StepsToGoPrediction:
    means = np.full(2, mean, np.float32)
    return StepsToGoPrediction(mean=means, std=means / 4, quantiles=np.zeros((2, 3), np.float32))


def test_live_fleet_writes_what_robots_do_while_somebody_watches(tmp_path: Path) -> None:
    write_live(tmp_path, LiveRobot(robot=4, state="faulty", since_s=0, written_s=0), b"old")
    fleet, live = live_robots(tmp_path)
    assert read_live(tmp_path) == []  # another process left it
    fleet.reset(ROBOTS, [1, 2])
    time.sleep(0.1)
    assert read_live(tmp_path) == []  # nobody watches
    say_watched(tmp_path)
    until(lambda: len(read_live(tmp_path)) == 2)
    for mean in (9.0, 7.5):
        live.predicted(ROBOTS, prediction(mean), np.zeros(2, dtype=bool), 0.5)
        fleet.step(ROBOTS, np.zeros((2, 1), np.float32))
    until(lambda: read_live(tmp_path)[1].step == 2)
    robot = read_live(tmp_path)[1]
    assert (robot.robot, robot.state, robot.instruction) == (5, "practising", "count")
    assert (robot.steps_to_go, robot.spread, robot.threshold_steps) == (
        (9, 7.5),
        (2.25, 1.875),
        0.5,
    )
    live.predicted(ROBOTS, prediction(0.2), np.array([False, True]), 0.5)
    until(lambda: read_live(tmp_path)[1].state == "waiting")
    fleet.reset(ROBOTS[1:], [3])
    fleet.close()
    robot = read_live(tmp_path)[1]
    assert (robot.state, robot.episode, robot.detected, robot.steps_to_go) == (
        *("practising", 2, 1),
        (),
    )


def test_live_robots_show_their_newest_image(tmp_path: Path) -> None:
    live = LiveRobots(tmp_path, first_robot=0, num_robots=2, writes_s=0.01)
    say_watched(tmp_path)
    red = np.zeros((2, 16, 24, 3), np.uint8)
    red[..., 0] = 255
    none = np.zeros((2, 0), np.float32)
    seen = Observation(agent_pos=none, environment_state=none, images={"front": red})
    live.stepped(ROBOTS, Sensed(observation=seen, env_ended=np.zeros(2, dtype=bool)))
    live.close()
    with Image.open(io.BytesIO(image_path(tmp_path, 1).read_bytes())) as image:
        assert image.size == (24, 16)
        assert np.asarray(image)[8, 12, 0] > 240


def test_a_stopped_robot_takes_no_step_until_it_is_released(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    clock = ControlClock(1.0, now=lambda: now[0])
    fleet, _ = live_robots(tmp_path, clock)
    inside = fleet.fleet
    assert isinstance(inside, CountingFleet)
    fleet.reset(ROBOTS, [1, 2])
    say_watched(tmp_path)
    signs: list[float] = []
    fleet.while_held = lambda: signs.append(time.monotonic())
    give_orders(tmp_path, Orders(number=1, stopped=(5,)))
    stepping = threading.Thread(target=fleet.step, args=(ROBOTS, np.zeros((2, 1), np.float32)))
    stepping.start()
    until(lambda: [robot.state for robot in read_live(tmp_path)] == ["practising", "stopped"])
    assert inside.actions == []
    assert signs
    assert f"stopped by a person: 5; nearer watch {tmp_path} lets" in caplog.text
    now[0] = 60.0
    give_orders(tmp_path, Orders(number=2))
    stepping.join(5)
    assert len(inside.actions) == 2
    assert clock.wait()  # a minute's hold was no delay
    give_orders(tmp_path, Orders(number=3, stop_all=True))
    held = threading.Thread(target=fleet.reset, args=(ROBOTS, [1, 2]))
    held.start()
    time.sleep(0.05)
    assert held.is_alive()
    fleet.close()
    held.join(5)
    assert not held.is_alive()


def test_an_episode_that_a_person_ends_is_the_operators(tmp_path: Path) -> None:
    fleet, live = live_robots(tmp_path)
    now = time.time()
    ends = (
        EndOrder(robot=5, episode=1, verdict="failure", at_s=now),
        EndOrder(robot=4, episode=9, verdict="success", at_s=now),
        EndOrder(robot=4, episode=1, verdict="success", at_s=now - 60),  # of an earlier process
    )
    give_orders(tmp_path, Orders(number=1, ends=ends))
    episodes = list(
        rollout(
            fleet,
            EchoPolicy(),
            LiveTermination(CountTermination(100), live, threshold=0.5),
            seeds=iter([1, 2]),
            max_steps=4,
        )
    )
    fleet.close()
    assert [(episode.robot, episode.ended) for episode in episodes] == [
        (1, Ended.OPERATOR),
        (0, Ended.TIME_LIMIT),
    ]


def test_an_episode_that_is_detected_and_ended_by_a_person_at_once_is_detected(
    tmp_path: Path,
) -> None:
    fleet, live = live_robots(tmp_path)
    end = EndOrder(robot=4, episode=1, verdict="success", at_s=time.time())
    give_orders(tmp_path, Orders(ends=(end,)))
    rule = LiveTermination(CountTermination(0), live, threshold=0.5)
    (episode,) = rollout(fleet, EchoPolicy(), rule, seeds=iter([1]), max_steps=4)
    fleet.close()
    assert episode.ended is Ended.SUCCESS_DETECTED


def test_episodes_of_a_watched_rule_end_as_the_rule_says(tmp_path: Path) -> None:
    class Truth(CountTermination):
        ended_as = Ended.SUCCESS_TRUE

    fleet, live = live_robots(tmp_path)
    rule = LiveTermination(Truth(2), live, threshold=0.5)
    (episode,) = rollout(fleet, EchoPolicy(), rule, seeds=iter([1]), max_steps=4)
    fleet.close()
    assert episode.ended is Ended.SUCCESS_TRUE


def test_a_robot_that_fails_is_shown_as_faulty(tmp_path: Path) -> None:
    class Broken(CountingFleet):
        def step(self, robots: np.ndarray, actions: np.ndarray) -> Sensed:
            raise EnvError("a cable is loose")

    live = LiveRobots(tmp_path, first_robot=0, num_robots=2, unit="chunks")
    fleet = LiveFleet(Broken(2, goal_steps=3), live)
    say_watched(tmp_path)
    fleet.reset(ROBOTS, [1, 2])
    with pytest.raises(EnvError, match="a cable is loose"):
        fleet.step(ROBOTS[:1], np.zeros((1, 1), np.float32))
    assert [robot.state for robot in read_live(tmp_path)] == ["faulty", "practising"]
    assert read_live(tmp_path)[0].unit == "chunks"
