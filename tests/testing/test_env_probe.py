"""Actions that rest and move, and what is kept of observations."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from nearer.fleets.env_settings import AS_IT_IS
from nearer.fleets.env_spaces import env_spaces
from nearer.testing.env_probe import REST_STEPS, BrokenEnvError, Frame, Probe, actions_of


def start_at(*numbers: float) -> Frame:
    return Frame(numbers=np.array(numbers, np.float32), digests={}, info={}, took_s=0.0, at_s=0.0)


def test_targets_of_joints_rest_where_the_joints_are_and_move_to_the_middle() -> None:
    space = Box(np.array([-1, 0], np.float32), np.array([1, 90], np.float32))
    walk, rests = actions_of(space, start_at(0.8, 10.0, 5.0), 11, amplitude=0.2)
    assert rests[0] == pytest.approx([0.8, 10])
    assert walk[REST_STEPS - 1] == pytest.approx([0.8, 10])
    assert walk[REST_STEPS] == pytest.approx([0.6, 19])
    assert walk[2 * REST_STEPS] == pytest.approx([0.8, 10])
    assert walk[0].dtype == np.float32


def test_actions_that_are_no_targets_rest_at_zero() -> None:
    space = Box(-0.1, 0.1, (1,))
    _, rests = actions_of(space, start_at(0.8), 10, amplitude=0.1)
    assert rests[0] == pytest.approx([0.0])
    walk, rests = actions_of(Box(-np.inf, np.inf, (1,)), start_at(0.8), 10, amplitude=0.1)
    assert rests[0] == pytest.approx([0.0])
    assert walk[-1] == pytest.approx([0.1])
    _, rests = actions_of(Box(-1, 1, (2,)), start_at(0.8), 10, amplitude=0.1)
    assert rests[0] == pytest.approx([0.0, 0.0])


class Line(gymnasium.Env[Any, Any]):
    observation_space: Any = Dict({"agent_pos": Box(-9, 9, (1,), np.float32)})
    action_space: Any = Box(-1, 1, (1,), np.float32)
    returned: Any = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"agent_pos": np.zeros(1, np.float32)}, {}

    def step(self, action: Any) -> Any:
        return self.returned or ({"agent_pos": action.copy()}, 0.0, action[0] > 0.5, False, {})


def probe_of(env: Line) -> Probe:
    return Probe(env, env_spaces(env, env.observation_space, env.action_space, AS_IT_IS))


def test_walk_ends_with_the_episode() -> None:
    probe = probe_of(Line())
    probe.reset(0)
    frames = probe.walk([np.array([value], np.float32) for value in (0.1, 0.9, 0.3)])
    assert [float(frame.numbers[0]) for frame in frames] == pytest.approx([0.1, 0.9])
    assert [frame.ended for frame in frames] == [False, True]
    assert probe.num_steps == 2
    assert probe.findings == []


NOTHING: Any = ({}, 0.0, False, False, {})


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ([1, 2], r"must return \(observation, reward, .*, got 1 value"),
        (NOTHING, "agent_pos must be observed"),
    ],
)
def test_observation_that_cannot_be_read_ends_the_trial(returned: Any, sentence: str) -> None:
    env = Line()
    env.returned = returned
    probe = probe_of(env)
    probe.reset(0)
    with pytest.raises(BrokenEnvError, match=sentence):
        probe.step(np.zeros(1, np.float32))
