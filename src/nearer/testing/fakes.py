"""A fleet, a policy and a termination rule that count, to test loops with."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Ended, Observation
from nearer.core.interfaces import Decision, Rngs, Sensed, Starts, Termination
from nearer.core.spaces import Spaces


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

    ended_as = Ended.SUCCESS_DETECTED

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
