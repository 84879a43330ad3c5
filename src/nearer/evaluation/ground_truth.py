"""The simulator's ground truth: recorded at every observation, or used to end episodes.

With audit.py and success.py the only readers of it; nothing here is seen by training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from nearer.algorithm.model import FoundationModel
from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Ended, Episode
from nearer.core.interfaces import Fleet, Sensed, Starts, Termination
from nearer.fleets.env_settings import AS_IT_IS, EnvSettings
from nearer.fleets.for_model import unencoded_fleet
from nearer.fleets.wrapper import FleetWrapper


def check_reports_success(
    env: str, model: FoundationModel, settings: EnvSettings = AS_IT_IS
) -> None:
    """Raise EnvError unless an env fits a model and reports success; it acts once, in one copy."""
    fleet = unencoded_fleet(env, 1, model, settings=settings)
    robot = np.zeros(1, dtype=np.int64)
    low, high = np.array(fleet.spaces.action_limits or ((0,), (0,)), np.float32)
    try:
        fleet.reset(robot, [0])
        fleet.step(robot, np.clip(np.zeros((1, fleet.spaces.action), np.float32), low, high))
        fleet.ground_truth(robot)
    finally:
        fleet.close()


class GroundTruthRecorder(FleetWrapper):
    """A fleet that records success at every observation of every episode, by ground truth.

    Attributes:
        recording: False: it asks for none, as in practice without audits.
    """

    def __init__(self, fleet: Fleet, *, recording: bool = True) -> None:
        super().__init__(fleet)
        self._recording = recording
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
        if not self._recording:
            return
        successes = self.ground_truth(robots).tolist()
        for robot, success in zip(robots.tolist(), successes, strict=True):
            self._success[self._seed_of_robot[robot]].append(success)


@dataclass(frozen=True, slots=True)
class GroundTruthTermination:
    """Ends an episode when the simulator's ground truth says that the instruction is done."""

    fleet: Fleet
    ended_as = Ended.SUCCESS_TRUE

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

    ended_as = Ended.SUCCESS_TRUE

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Return that no robot is done."""
        return Termination(done=np.zeros(len(robots), dtype=bool))
