"""Does a fleet keep the contract of `nearer.core.interfaces.Fleet`?"""

import numpy as np

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.interfaces import Fleet
from nearer.core.spaces import Spaces


def check_fleet(fleet: Fleet, steps: int = 5) -> None:
    """Check that a fleet keeps the contract of `nearer.core.interfaces.Fleet`.

    The same seed gives the same start, whatever the slot; a robot that is not stepped stands
    still; observations have the sizes of `fleet.spaces`.

    Raises:
        AssertionError: names what is broken.
    """
    everyone = np.arange(fleet.num_robots)
    seeds = [1000 + robot for robot in range(fleet.num_robots)]
    starts = fleet.reset(everyone, seeds)
    _check_sizes(starts.observation, fleet.spaces, fleet.num_robots)
    assert len(starts.instructions) == fleet.num_robots, "reset must give an instruction a robot"
    backwards = fleet.reset(everyone, seeds[::-1]).observation.state[::-1]
    assert np.array_equal(starts.observation.state, backwards), (
        "the same seed must give the same start in every slot"
    )
    fleet.reset(everyone, seeds)
    first = _walk(fleet, everyone, steps)
    fleet.reset(everyone, seeds)
    again = _walk(fleet, everyone, steps)
    assert np.array_equal(first, again), "the same seed and actions must give the same episode"
    if fleet.num_robots > 1:
        fleet.reset(everyone, seeds)
        _walk(fleet, everyone[1:], steps)
        alone = _walk(fleet, everyone[:1], steps)
        assert np.array_equal(first[:, :1], alone), "a robot that is not stepped must stand still"
    truth = fleet.ground_truth(everyone)
    assert truth.dtype == bool, f"ground_truth must be bool, got {truth.dtype}"
    assert truth.shape == (fleet.num_robots,), f"ground_truth must have a row a robot: {truth}"


def _walk(fleet: Fleet, robots: Array, steps: int) -> Array:
    """Return the states of these robots after each of `steps` fixed actions."""
    states: list[Array] = []
    for step in range(steps):
        actions = np.full((len(robots), fleet.spaces.action), 1e-4 * (step + 1), np.float32)
        states.append(fleet.step(robots, actions).observation.state)
    return np.stack(states)


def _check_sizes(observation: Observation | EncodedObservation, spaces: Spaces, rows: int) -> None:
    expected = {
        "agent_pos": (rows, spaces.agent_pos),
        "environment_state": (rows, spaces.environment_state),
    }
    got = {
        "agent_pos": observation.agent_pos.shape,
        "environment_state": observation.environment_state.shape,
    }
    assert got == expected, f"observations must have the sizes of spaces, {expected}, got {got}"
