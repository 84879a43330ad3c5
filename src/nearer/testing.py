"""Contract tests for your own fleet, model or policy, and fakes to test loops with.

check_fleet(make_fleet("my/Env-v0", 3))
check_model(my_model, my_inputs)
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from nearer.algorithm.model import FoundationModel, Inputs
from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Ended, Observation
from nearer.core.interfaces import Decision, Fleet, Rngs, Sensed, Starts, Termination
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


def check_model(model: FoundationModel, inputs: Inputs) -> None:
    """Check that a model keeps the contract of `nearer.algorithm.model.FoundationModel`.

    Sampling depends on nothing but the generators, log-probabilities of sampled actions are
    exact, and steps-to-go logits have a row an observation and a column a bin.

    Raises:
        AssertionError: names what is broken.
    """
    rows = len(inputs.state)
    with torch.inference_mode():
        actions, log_prob = model.sample(inputs, _generators(rows))
        again, _ = model.sample(inputs, _generators(rows))
        assert torch.equal(actions, again), "the same generators must give the same actions"
        assert actions.shape == (rows, model.spaces.action), f"actions have shape {actions.shape}"
        exact = model.log_prob(inputs, actions)
        assert torch.allclose(log_prob, exact, atol=1e-3), (
            f"sample and log_prob must agree, got {log_prob} and {exact}"
        )
        logits = model.steps_to_go_logits(inputs)
        assert logits.shape == (rows, model.bins.count), f"logits have shape {logits.shape}"
        assert bool(logits.isfinite().all()), "logits must be finite"


class CountingFleet:
    """Robots that count: agent_pos = [seed, steps since reset]; done after `goal_steps` steps.

    With it a test sees every transition that is lost, doubled or shuffled.
    """

    def __init__(self, num_robots: int, goal_steps: int) -> None:
        self.num_robots = num_robots
        self.spaces = Spaces(agent_pos=2, environment_state=0, action=1)
        self.actions: list[tuple[int, int, float]] = []
        self._goal_steps = goal_steps
        self._position = np.zeros((num_robots, 2), dtype=np.float32)

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Start to count again."""
        self._position[robots] = np.stack([seeds, np.zeros(len(robots))], axis=1)
        return Starts(observation=self._observe(robots), instructions=["count"] * len(robots))

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Count one, and note (seed, step, action)."""
        for (seed, count), action in zip(self._position[robots], actions, strict=True):
            self.actions.append((int(seed), int(count), float(action[0])))
        self._position[robots, 1] += 1
        never = np.zeros(len(robots), dtype=bool)
        return Sensed(observation=self._observe(robots), env_ended=never)

    def ground_truth(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Tell who has counted far enough; seeds that are multiples of 3 never do."""
        seeds, counts = self._position[robots].T
        return (counts >= self._goal_steps) & (seeds % 3 != 0)

    def close(self) -> None:
        """Do nothing."""

    def _observe(self, robots: Int64[Array, "robots"]) -> Observation:
        return Observation(
            agent_pos=self._position[robots],
            environment_state=np.zeros((len(robots), 0), dtype=np.float32),
        )


class EchoPolicy:
    """Acts by what it sees: action = seed + steps / 1000, so that pairs can be checked."""

    def begin(self, robots: Int64[Array, "robots"], rngs: Rngs) -> None:
        """Do nothing."""

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        rngs: Rngs,
    ) -> Decision:
        """Return the echo, with the step as log-probability."""
        seeds, counts = observation.agent_pos.T
        actions = (seeds + counts / 1000).astype(np.float32)[:, None]
        return Decision(actions=actions, log_prob=counts.astype(np.float32))


class CountTermination:
    """Ends an episode when its robot has counted to `goal_steps`, unless its seed is 3 n."""

    ended_as: ClassVar[Ended] = Ended.SUCCESS_DETECTED

    def __init__(self, goal_steps: int) -> None:
        self._goal_steps = goal_steps

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Return who has counted far enough."""
        seeds, counts = observation.agent_pos.T
        return Termination(done=(counts >= self._goal_steps) & (seeds % 3 != 0))


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


def _generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([7, row]) for row in range(count)]
