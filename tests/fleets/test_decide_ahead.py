"""Chunks that are decided ahead: which actions are executed, when, and what is observed."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nearer.core.action_chunks import Chunking
from nearer.core.episode import Observation
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Sensed, Starts
from nearer.fleets.decide_ahead import AheadFleet, whole_chunks
from nearer.testing import CountingFleet

ROBOT = np.arange(1)
CHUNK = Chunking(chunk=8)


class Gated(CountingFleet):
    """A robot that waits at a gate before its steps from the sixth of a chunk on."""

    def __init__(self) -> None:
        super().__init__(1, goal_steps=6)
        self.gate = threading.Event()
        self.gate.set()
        self.executed: list[float] = []
        self.threads: set[str] = set()
        self.end_at = 1000

    def reset(self, robots: Any, seeds: Sequence[int]) -> Starts:
        self.threads.add(threading.current_thread().name)
        return super().reset(robots, seeds)

    def step(self, robots: Any, actions: Any) -> Sensed:
        self.threads.add(threading.current_thread().name)
        if actions[0, 0] % 10 >= 6:
            assert self.gate.wait(10), "the test must open the gate"
        self.executed.append(float(actions[0, 0]))
        sensed = super().step(robots, actions)
        over = np.array([len(self.executed) >= self.end_at])
        return Sensed(observation=sensed.observation, env_ended=over)


def chunk(number: int) -> np.ndarray:
    return np.arange(10 * number, 10 * number + 8, dtype=np.float32)[None]


def steps_done(sensed: Starts | Sensed) -> float:
    assert isinstance(sensed.observation, Observation)
    return float(sensed.observation.agent_pos[0, 1])


def test_the_next_chunk_is_decided_before_this_one_has_ended() -> None:
    robot = Gated()
    fleet = AheadFleet(robot, CHUNK, ahead=2)
    assert fleet.spaces.action == 8
    fleet.reset(ROBOT, [1])
    robot.gate.clear()
    sensed = fleet.step(ROBOT, chunk(0))  # returns though the last two actions are to come
    assert steps_done(sensed) == 6
    assert robot.executed == [0, 1, 2, 3, 4, 5]
    assert fleet.ground_truth(ROBOT).tolist() == [True]
    robot.gate.set()
    sensed = fleet.step(ROBOT, chunk(1))
    assert robot.executed[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15]
    assert steps_done(sensed) == 12
    fleet.close()
    assert robot.executed[12:] == [16, 17]
    assert len(robot.threads) == 1


def test_a_new_episode_begins_after_the_last_chunk_has_ended() -> None:
    robot = Gated()
    fleet = AheadFleet(robot, CHUNK, ahead=3)
    fleet.reset(ROBOT, [1])
    fleet.step(ROBOT, chunk(0))
    starts = fleet.reset(ROBOT, [2])
    assert steps_done(starts) == 0
    assert fleet.ground_truth(ROBOT).tolist() == [False]
    fleet.step(ROBOT, chunk(3))
    assert robot.executed == [0, 1, 2, 3, 4, 5, 6, 7, 30, 31, 32, 33, 34]
    fleet.close()


def test_an_env_that_ends_while_the_next_chunk_is_decided_executes_none_of_it() -> None:
    robot = Gated()
    robot.end_at = 7
    fleet = AheadFleet(robot, CHUNK, ahead=2)
    fleet.reset(ROBOT, [1])
    assert not fleet.step(ROBOT, chunk(0)).env_ended[0]
    sensed = fleet.step(ROBOT, chunk(1))
    assert sensed.env_ended[0]
    assert steps_done(sensed) == 7
    assert robot.executed == [0, 1, 2, 3, 4, 5, 6]
    fleet.close()


def test_a_time_limit_counts_whole_chunks() -> None:
    assert whole_chunks(120, Chunking(chunk=10), ahead=4) == 200
    assert whole_chunks(120, Chunking(chunk=10), ahead=0) == 120


def test_several_robots_or_short_chunks_are_refused() -> None:
    with pytest.raises(ConfigError, match="one robot a process, got 2"):
        AheadFleet(CountingFleet(2, 5), CHUNK, ahead=2)
    with pytest.raises(ConfigError, match="less than half of the policy's chunk of 8"):
        AheadFleet(CountingFleet(1, 5), CHUNK, ahead=4)
