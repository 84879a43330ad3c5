"""Robots of another machine: shown at the console, and stopped by it, through Ray alone."""

import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearer.core.errors import NearerError
from nearer.fleets.actors.live_relay import LiveRelay, RelayedFolder
from nearer.fleets.live import LiveFleet
from nearer.fleets.live_robots import LiveRobots
from nearer.runs.clips import clip_path
from nearer.runs.live import (
    LiveRobot,
    Orders,
    StopSignal,
    give_orders,
    image_path,
    read_live,
    say_watched,
)
from nearer.testing import CountingFleet
from waiting import until

ray: Any = pytest.importorskip("ray")
ROBOTS = np.arange(2)


@pytest.fixture(scope="module")
def connected() -> Iterator[None]:
    ray.init("local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def link(connected: None, tmp_path: Path) -> Iterator[RelayedFolder]:
    """What a robot elsewhere is sent; the run's folder is tmp_path."""
    relay = LiveRelay(ray, tmp_path)
    sent = pickle.loads(ray.cloudpickle.dumps(relay.link))
    yield sent
    sent.close()
    relay.close()


def robot(number: int, **values: Any) -> LiveRobot:
    return LiveRobot(robot=number, state="practising", since_s=1.0, written_s=2.0, **values)


def test_robots_elsewhere_are_shown_stopped_and_let_go(link: RelayedFolder, tmp_path: Path) -> None:
    live = LiveRobots(link, first_robot=4, num_robots=2, writes_s=0.01)
    inside = CountingFleet(2, goal_steps=3)
    fleet = LiveFleet(inside, live)
    fleet.reset(ROBOTS, [1, 2])
    time.sleep(0.1)
    assert read_live(tmp_path) == []
    say_watched(tmp_path)
    until(lambda: [one.robot for one in read_live(tmp_path)] == [4, 5])

    signal = StopSignal(tmp_path)
    signal.give()
    until(link.is_stop_coming)
    stepping = threading.Thread(
        target=fleet.step, args=(ROBOTS, np.zeros((2, 1), np.float32)), daemon=True
    )
    stepping.start()
    give_orders(tmp_path, Orders(number=1, stop_all=True))
    until(lambda: link.orders().stop_all)
    signal.take_back()
    until(lambda: [one.state for one in read_live(tmp_path)] == ["stopped"] * 2)
    assert inside.actions == []
    give_orders(tmp_path, Orders(number=2))
    stepping.join(10)
    assert len(inside.actions) == 2
    fleet.close()


def test_images_clips_and_todays_counts_reach_the_folder(
    link: RelayedFolder, tmp_path: Path
) -> None:
    now = time.time()
    link.write(robot(3, episodes_today=5), b"jpeg")
    link.write(LiveRobot(robot=7, state="waiting", since_s=now, written_s=now), None)
    link.write(
        LiveRobot(robot=8, state="waiting", since_s=now, written_s=now, episodes_today=9), None
    )
    link.write_clip(2, 11, b"clip")
    assert image_path(tmp_path, 3).read_bytes() == b"jpeg"
    assert clip_path(tmp_path, 2, 11).read_bytes() == b"clip"
    (kept,) = link.start(range(7, 9))
    assert (kept.robot, kept.episodes_today) == (8, 9)
    assert {one.robot for one in read_live(tmp_path)} == {3, 8}


def test_what_the_learners_disk_does_not_take_is_told(link: RelayedFolder, tmp_path: Path) -> None:
    (tmp_path / "live").write_text("no folder")
    with pytest.raises(NearerError, match=r"must be reached through Ray, got: .*live"):
        link.write(robot(0), None)


def test_a_relay_that_is_gone_leaves_the_last_orders(connected: None, tmp_path: Path) -> None:
    give_orders(tmp_path, Orders(number=1, stopped=(2,)))
    relay = LiveRelay(ray, tmp_path)
    relay.link.start(range(2))
    assert relay.link.orders().stopped == (2,)
    relay.close()
    with pytest.raises(NearerError, match="must be reached through Ray"):
        relay.link.write(robot(0), None)
    assert relay.link.orders().stopped == (2,)
    relay.link.close()
