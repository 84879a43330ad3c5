"""Robots that are watched: what is written of them, who is held, whose episode a person ends."""

import io
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearer.algorithm.rollout import rollout
from nearer.core.asking import ask_person
from nearer.core.control_clock import ControlClock
from nearer.core.episode import (
    EncodedObservation,
    Ended,
    Episode,
    Observation,
    StepsToGoPrediction,
)
from nearer.core.errors import EnvError
from nearer.core.interfaces import Sensed, Starts
from nearer.fleets.gym import make_fleet
from nearer.fleets.instructions import ChosenInstructions
from nearer.fleets.live import LiveFleet, LiveTermination
from nearer.fleets.live_link import LiveFolder
from nearer.fleets.live_robots import LiveRobots
from nearer.runs.clips import clip_path
from nearer.runs.live import (
    Done,
    EndOrder,
    LiveRobot,
    Orders,
    StopSignal,
    give_orders,
    image_path,
    read_live,
    say_watched,
    write_live,
)
from nearer.testing import CountingFleet, CountTermination, EchoPolicy
from waiting import until

ROBOTS = np.arange(2)


def live_robots(run: Path, clock: ControlClock | None = None) -> tuple[LiveFleet, LiveRobots]:
    live = LiveRobots(LiveFolder(run), first_robot=4, num_robots=2, writes_s=0.01)
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
        live.predicted(ROBOTS, prediction(mean), 0.5)
        fleet.step(ROBOTS, np.zeros((2, 1), np.float32))
    until(lambda: read_live(tmp_path)[1].step == 2)
    robot = read_live(tmp_path)[1]
    assert (robot.robot, robot.state, robot.instruction) == (5, "practising", "count")
    assert (robot.steps_to_go, robot.spread, robot.threshold_steps) == (
        (9, 7.5),
        (2.25, 1.875),
        0.5,
    )
    live.begin(iteration=3, version=2)
    live.ended(episode(robot=1, seed=1))
    until(lambda: read_live(tmp_path)[1].state == "waiting")
    fleet.reset(ROBOTS[1:], [3])
    fleet.close()
    robot = read_live(tmp_path)[1]
    assert (robot.state, robot.episode, robot.detected_today) == ("practising", 2, 1)
    assert (robot.steps_to_go, robot.policy_version) == ((), 2)


def episode(robot: int, seed: int, ended: Ended = Ended.SUCCESS_DETECTED) -> Episode:
    none = np.zeros((1, 0), np.float32)
    return Episode(
        robot=robot,
        seed=seed,
        instruction="count",
        policy_version=0,
        observations=EncodedObservation.without_features(
            Observation(agent_pos=none, environment_state=none)
        ),
        actions=np.zeros((0, 1), np.float32),
        log_prob=np.zeros(0, np.float32),
        ended=ended,
    )


def colour(red: int) -> Sensed:
    """Return what two robots see: 24 pixels by 16 of a red."""
    none = np.zeros((2, 0), np.float32)
    image = np.zeros((2, 16, 24, 3), np.uint8)
    image[..., 0] = red
    seen = Observation(agent_pos=none, environment_state=none, images={"front": image})
    return Sensed(observation=seen, env_ended=np.zeros(2, dtype=bool))


def test_episodes_of_audited_iterations_are_filmed(tmp_path: Path) -> None:
    live = LiveRobots(
        LiveFolder(tmp_path), first_robot=0, num_robots=2, film_every=2, writes_s=0.01
    )
    starts = Starts(observation=colour(0).observation, instructions=["count"] * 2)
    for iteration in range(3):
        live.begin(iteration, iteration)
        live.began(ROBOTS, starts)
        live.stepped(ROBOTS, colour(255))
        for robot in range(2):
            live.ended(episode(robot, seed=10 * iteration + robot))
    live.close()  # nobody watches: clips are written all the same
    clips = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.jpg"))
    assert clips == [Path(f"clips/00000{i}/{10 * i + r}.jpg") for i in (0, 2) for r in (0, 1)]
    with Image.open(clip_path(tmp_path, 2, 21)) as strip:
        assert strip.size == (8 * 24, 8 * 16)
        assert np.asarray(strip)[8, 12, 0] < 15
        assert np.asarray(strip)[8 * 16 - 8, 8 * 24 - 12, 0] > 240


def test_live_robots_show_their_newest_image(tmp_path: Path) -> None:
    live = LiveRobots(LiveFolder(tmp_path), first_robot=0, num_robots=2, writes_s=0.01)
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


def test_a_robot_holds_still_while_a_stop_is_being_written(tmp_path: Path) -> None:
    fleet, _ = live_robots(tmp_path)
    fleet.reset(ROBOTS, [1, 2])
    signal = StopSignal(tmp_path)
    signal.give()
    stepping = threading.Thread(
        target=fleet.step, args=(ROBOTS, np.zeros((2, 1), np.float32)), daemon=True
    )
    stepping.start()
    stepping.join(0.2)
    assert stepping.is_alive()
    signal.take_back()
    stepping.join(5)
    assert not stepping.is_alive()
    fleet.close()


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


def test_a_bad_stations_episode_ends_as_a_fault(tmp_path: Path) -> None:
    fleet, live = live_robots(tmp_path)
    end = EndOrder(robot=4, episode=1, verdict="bad station", at_s=time.time())
    give_orders(tmp_path, Orders(ends=(end,)))
    rule = LiveTermination(CountTermination(100), live, threshold=0.5)
    (ended,) = rollout(fleet, EchoPolicy(), rule, seeds=iter([1]), max_steps=4)
    fleet.close()
    assert ended.ended is Ended.FAULT


def test_a_bad_stations_steps_are_taken_again(tmp_path: Path) -> None:
    class Bad(CountingFleet):
        def step(self, robots: np.ndarray, actions: np.ndarray) -> Sensed:
            if len(self.actions) == 2:
                end = EndOrder(robot=0, episode=1, verdict="bad station", at_s=time.time())
                give_orders(tmp_path, Orders(ends=(end,)))
            return super().step(robots, actions)

    live = LiveRobots(LiveFolder(tmp_path), first_robot=0, num_robots=1)
    fleet = LiveFleet(Bad(1, goal_steps=3), live)
    rule = LiveTermination(CountTermination(100), live, threshold=0.5)
    episodes = rollout(
        *(fleet, EchoPolicy(), rule), seeds=iter([1, 2, 4, 5]), max_steps=4, enough_steps=4
    )
    ended = [(one.ended, one.num_steps) for one in episodes]
    fleet.close()
    assert ended == [(Ended.FAULT, 3), (Ended.TIME_LIMIT, 4)]


def test_a_reset_that_a_person_asks_for_waits_until_they_say_that_it_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fleet, _ = live_robots(tmp_path)
    say_watched(tmp_path)
    fleet.reset(ROBOTS, [1, 2])
    end = EndOrder(robot=5, episode=1, verdict="reset", at_s=time.time())
    give_orders(tmp_path, Orders(ends=(end,)))
    resetting = threading.Thread(target=fleet.reset, args=(ROBOTS, [3, 4]))
    resetting.start()
    until(lambda: len(read_live(tmp_path)) == 2 and read_live(tmp_path)[1].asks)
    robots = read_live(tmp_path)
    assert [robot.state for robot in robots] == ["practising", "waiting"]
    assert [robot.episode for robot in robots] == [1, 1]
    assert robots[1].asks == "Put the scene in order, and step back."
    assert "robot 5 waits for a person: Put the scene" in caplog.text
    earlier = Done(robot=5, asked_s=robots[1].asked_s - 1)
    give_orders(tmp_path, Orders(number=1, ends=(end,), done=(earlier,)))
    time.sleep(0.05)
    assert resetting.is_alive()
    now = Done(robot=5, asked_s=robots[1].asked_s)
    give_orders(tmp_path, Orders(number=2, ends=(end,), done=(earlier, now)))
    resetting.join(5)
    assert not resetting.is_alive()
    until(lambda: [robot.episode for robot in read_live(tmp_path)] == [2, 2])
    assert read_live(tmp_path)[1].asks == ""
    fleet.close()


def test_an_env_that_asks_a_person_reaches_them_at_the_console(tmp_path: Path) -> None:
    class ByHand(CountingFleet):
        def reset(self, robots: np.ndarray, seeds: Sequence[int]) -> Starts:
            ask_person("Fold the towel.")
            return super().reset(robots, seeds)

    live = LiveRobots(LiveFolder(tmp_path), first_robot=0, num_robots=2, writes_s=0.01)
    fleet = LiveFleet(ByHand(2, goal_steps=3), live)
    say_watched(tmp_path)
    resetting = threading.Thread(target=fleet.reset, args=(ROBOTS, [3, 4]))
    resetting.start()
    until(lambda: {robot.asks for robot in read_live(tmp_path)} == {"Fold the towel."})
    asked_s = read_live(tmp_path)[0].asked_s
    give_orders(tmp_path, Orders(done=(Done(robot=0, asked_s=asked_s),)))
    resetting.join(5)
    assert not resetting.is_alive()
    fleet.close()


def test_people_choose_what_is_practised(tmp_path: Path) -> None:
    orders = ("push the green star to the blue cube", "push the red star to the purple elephant")
    chosen = ChosenInstructions()
    tabletop = make_fleet("nearer/Tabletop-v0", 2, chosen=chosen)
    live = LiveRobots(LiveFolder(tmp_path), first_robot=0, num_robots=2, writes_s=0.01)
    fleet = LiveFleet(tabletop, live, chosen=chosen)
    give_orders(tmp_path, Orders(instructions=orders[:1]))
    assert fleet.reset(ROBOTS, [1, 2]).instructions == [orders[0]] * 2
    assert fleet.reset(ROBOTS[1:], [3]).instructions == [orders[0]]
    say_watched(tmp_path)
    give_orders(tmp_path, Orders(number=1, instructions=orders[1:]))
    drawn = fleet.reset(ROBOTS, [1, 2]).instructions
    assert not set(drawn) & set(orders)
    until(lambda: any("elephant" in robot.refused for robot in read_live(tmp_path)))
    give_orders(tmp_path, Orders(number=2))
    assert fleet.reset(ROBOTS, [1, 2]).instructions == drawn
    until(lambda: not any(robot.refused for robot in read_live(tmp_path)))
    fleet.close()


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

    live = LiveRobots(LiveFolder(tmp_path), first_robot=0, num_robots=2, unit="chunks")
    fleet = LiveFleet(Broken(2, goal_steps=3), live)
    say_watched(tmp_path)
    fleet.reset(ROBOTS, [1, 2])
    with pytest.raises(EnvError, match="a cable is loose"):
        fleet.step(ROBOTS[:1], np.zeros((1, 1), np.float32))
    assert [robot.state for robot in read_live(tmp_path)] == ["faulty", "practising"]
    assert read_live(tmp_path)[0].unit == "chunks"


@pytest.mark.parametrize("watched", [True, False])
def test_todays_counts_outlive_the_process(tmp_path: Path, watched: bool) -> None:
    fleet, live = live_robots(tmp_path)
    fleet.reset(ROBOTS, [1, 2])
    live.ended(episode(robot=0, seed=1))
    live.ended(episode(robot=1, seed=2, ended=Ended.TIME_LIMIT))
    if watched:  # and then the process is killed: nothing is closed
        say_watched(tmp_path)
        until(lambda: [robot.episodes_today for robot in read_live(tmp_path)] == [1, 1])
    else:
        time.sleep(0.05)
        assert read_live(tmp_path) == []
        fleet.close()
    again, live = live_robots(tmp_path)
    assert [robot.state for robot in read_live(tmp_path)] == ["waiting", "waiting"]
    again.reset(ROBOTS, [3, 4])
    live.ended(episode(robot=0, seed=3))
    again.close()
    assert [robot.episodes_today for robot in read_live(tmp_path)] == [2, 1]
    assert [robot.detected_today for robot in read_live(tmp_path)] == [2, 0]
    fleet.close()
