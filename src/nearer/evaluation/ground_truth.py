"""The simulator's ground truth: recorded at every observation, or used to end episodes.

With audit.py and success.py the only readers of it; nothing here is seen by training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Int64

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Ended, Episode
from nearer.core.interfaces import Fleet, Sensed, Starts, Termination
from nearer.fleets.wrapper import FleetWrapper


class GroundTruthRecorder(FleetWrapper):
    """A fleet that records success at every observation of every episode, by ground truth."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._seed_of_robot: dict[int, int] = {}
        self._success: dict[int, list[bool]] = {}

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots and start a record for each."""
        starts = super().reset(robots, seeds)
        for robot, seed in zip(robots.tolist(), seeds, strict=True):
            self._seed_of_robot[robot] = seed
            self._success[seed] = []
        self._record(robots)
        return starts

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step the fleet's robots and record their success."""
        sensed = super().step(robots, actions)
        self._record(robots)
        return sensed

    def success(self, episode: Episode) -> Bool[Array, "obs"]:
        """Return at which observations of an episode its instruction was done."""
        return np.array(self._success[episode.seed], dtype=bool)

    def forget(self) -> None:
        """Drop all records; episodes in flight must have ended."""
        self._success.clear()

    def _record(self, robots: Int64[Array, "robots"]) -> None:
        successes = self.ground_truth(robots).tolist()
        for robot, success in zip(robots.tolist(), successes, strict=True):
            self._success[self._seed_of_robot[robot]].append(success)


@dataclass(frozen=True, slots=True)
class GroundTruthTermination:
    """Ends an episode when the simulator's ground truth says that the instruction is done."""

    fleet: Fleet
    ended_as: ClassVar[Ended] = Ended.SUCCESS_TRUE

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Ask the fleet; the observation is not used."""
        return Termination(done=self.fleet.ground_truth(robots))


class NoTermination:
    """Lets every episode run to its time limit."""

    ended_as: ClassVar[Ended] = Ended.SUCCESS_TRUE

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Return that no robot is done."""
        return Termination(done=np.zeros(len(robots), dtype=bool))
