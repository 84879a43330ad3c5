"""A fleet whose pictures are looked at once, by the frozen part of a model.

The vision tower is frozen when a robot acts (in the paper: in Stage 2), so what it makes of a
frame never changes: it is computed when the frame is seen, kept with the observation, and shared
by policy, detector, reward and update. That is exact, and the largest saving there is.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from jaxtyping import Float32, Int64

from nearer.episode import Observation
from nearer.protocols import Fleet, Sensed, Sight, Starts
from nearer.shapes import Array
from nearer.wrapper import FleetWrapper


class SeeingFleet(FleetWrapper):
    """A fleet whose observations come with a sight's features in place of their pictures."""

    def __init__(self, fleet: Fleet, sight: Sight) -> None:
        super().__init__(fleet)
        self._sight = sight
        self._instructions = [""] * fleet.num_robots
        self._features = np.zeros((fleet.num_robots, sight.width), dtype=np.float32)

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots and look at what they see."""
        starts = super().reset(robots, seeds)
        for robot, instruction in zip(robots.tolist(), starts.instructions, strict=True):
            self._instructions[robot] = instruction
        return replace(starts, observation=self._seen(robots, starts.observation, None))

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step the fleet's robots and look at what they see."""
        sensed = super().step(robots, actions)
        before = self._features[robots]
        return replace(sensed, observation=self._seen(robots, sensed.observation, before))

    def _seen(
        self, robots: Int64[Array, "robots"], observation: Observation, before: Array | None
    ) -> Observation:
        instructions = [self._instructions[robot] for robot in cast(list[int], robots.tolist())]
        looks = self._sight.look(observation.images, instructions)
        features = self._sight.follow(before, looks)
        self._features[robots] = features
        return replace(observation, images={}, features=features)


def seeing(fleet: Fleet, sight: Sight | None) -> Fleet:
    """Return the fleet with features in its observations; as it is, where a model has no sight."""
    return fleet if sight is None else SeeingFleet(fleet, sight)
