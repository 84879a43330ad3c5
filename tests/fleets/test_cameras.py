"""Cameras that freeze or show nothing are told from robots that stand still."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nearer.core.episode import Observation
from nearer.core.errors import EnvError
from nearer.core.interfaces import Sensed, Starts
from nearer.core.spaces import Camera, Spaces
from nearer.fleets.cameras import WatchedCameras

BOTH = np.arange(2)


class Filmed:
    """Two robots whose camera shows their position, unless a test says otherwise."""

    def __init__(self) -> None:
        self.num_robots = 2
        self.spaces = Spaces(
            agent_pos=1, environment_state=0, action=1, cameras=(Camera("front", 2, 2),)
        )
        self.positions = np.zeros((2, 1), np.float32)
        self.frozen = self.black = False
        self._shown = np.zeros(2, np.uint8)

    def reset(self, robots: Any, seeds: Sequence[int]) -> Starts:
        self.positions[robots] = 1
        return Starts(observation=self._observe(robots), instructions=["move"] * len(robots))

    def step(self, robots: Any, actions: Any) -> Sensed:
        self.positions[robots] += actions
        return Sensed(
            observation=self._observe(robots), env_ended=np.zeros(len(robots), dtype=bool)
        )

    def ground_truth(self, robots: Any) -> Any:
        return np.zeros(len(robots), dtype=bool)

    def close(self) -> None:
        pass

    def _observe(self, robots: Any) -> Observation:
        if not self.frozen:
            self._shown[robots] = 100 * self.positions[robots, 0]
        images = np.zeros((len(robots), 2, 2, 3), np.uint8)
        if not self.black:
            images[:, 0] = self._shown[robots, None, None]
        return Observation(
            agent_pos=self.positions[robots],
            environment_state=np.zeros((len(robots), 0), np.float32),
            images={"front": images},
        )


def started() -> tuple[Filmed, WatchedCameras]:
    robots = Filmed()
    fleet = WatchedCameras(robots, frozen_steps=3)
    fleet.reset(BOTH, [0, 1])
    return robots, fleet


def move(fleet: WatchedCameras, by: float, steps: int, robots: Any = BOTH) -> None:
    for _ in range(steps):
        fleet.step(robots, np.full((len(robots), 1), by, np.float32))


def test_an_image_that_stays_while_its_robot_moves_is_a_fault() -> None:
    robots, fleet = started()
    move(fleet, 0.1, 5)
    robots.frozen = True
    move(fleet, 0.1, 2)
    with pytest.raises(EnvError, match=r"front of robot 0 must show what moves.* for 3 control"):
        move(fleet, 0.1, 1)


def test_an_image_that_stays_while_its_robot_stands_still_is_none() -> None:
    _, fleet = started()
    move(fleet, 0.0, 10)
    move(fleet, 1e-4, 10)


def test_a_new_image_starts_the_count_again() -> None:
    robots, fleet = started()
    for _ in range(4):
        robots.frozen = True
        move(fleet, 0.1, 2)
        robots.frozen = False
        move(fleet, 0.1, 1)


def test_an_image_of_one_colour_at_the_start_is_a_fault() -> None:
    robots, fleet = started()
    robots.black = True
    with pytest.raises(EnvError, match="front of robot 1 must show something when an episode"):
        fleet.reset(BOTH[1:], [2])
