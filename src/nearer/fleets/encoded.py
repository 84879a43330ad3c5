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

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.interfaces import Fleet, Sensed, Starts
from nearer.core.vision import Sight
from nearer.fleets.wrapper import FleetWrapper


class Follower:
    """A sight with its memory of the frame before, robot by robot."""

    def __init__(self, sight: Sight, num_robots: int) -> None:
        self._sight = sight
        self._features = np.zeros((num_robots, sight.width), dtype=np.float32)

    def see(
        self,
        robots: Int64[Array, "robots"],
        observation: Observation,
        instructions: Sequence[str],
        *,
        at_start: bool,
    ) -> Float32[Array, "robots features"]:
        """Return the features of what robots see now, and remember them."""
        before = None if at_start else self._features[robots]
        looks = self._sight.look(observation.images, instructions)
        self._features[robots] = self._sight.follow(before, looks)
        return self._features[robots]


class SeeingFleet(FleetWrapper):
    """A fleet whose observations come with features in place of their pictures.

    Args:
        fleet: robots with cameras.
        sight: the policy's; None: it sees no pictures.
        reward_sight: the reward model's; None: the policy's is its own, or it sees no pictures.
    """

    def __init__(
        self, fleet: Fleet, sight: Sight | None, reward_sight: Sight | None = None
    ) -> None:
        super().__init__(fleet)
        named = {"features": sight, "reward_features": reward_sight}
        self._followers = {
            name: Follower(one, fleet.num_robots) for name, one in named.items() if one
        }
        self._instructions = [""] * fleet.num_robots

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots and look at what they see."""
        starts = super().reset(robots, seeds)
        for robot, instruction in zip(robots.tolist(), starts.instructions, strict=True):
            self._instructions[robot] = instruction
        return replace(starts, observation=self._seen(robots, starts.observation, at_start=True))

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step the fleet's robots and look at what they see."""
        sensed = super().step(robots, actions)
        return replace(sensed, observation=self._seen(robots, sensed.observation, at_start=False))

    def _seen(
        self, robots: Int64[Array, "robots"], observation: Observation, *, at_start: bool
    ) -> Observation:
        instructions = [self._instructions[robot] for robot in cast(list[int], robots.tolist())]
        features = {
            name: one.see(robots, observation, instructions, at_start=at_start)
            for name, one in self._followers.items()
        }
        return replace(observation, images={}, **features)


def seeing(fleet: Fleet, sight: Sight | None, reward_sight: Sight | None = None) -> Fleet:
    """Return the fleet with features in its observations; as it is, where no model has a sight.

    Args:
        fleet: robots, with cameras where there is a sight.
        sight: the policy's.
        reward_sight: the reward model's.
    """
    other = other_sight(sight, reward_sight)
    return SeeingFleet(fleet, sight, other) if sight or other else fleet


def feature_widths(sight: Sight | None, reward_sight: Sight | None) -> tuple[int, int]:
    """Return the numbers a frame that `seeing` gives for the policy, and for the reward beside."""
    other = other_sight(sight, reward_sight)
    return sight.width if sight else 0, other.width if other else 0


def other_sight(sight: Sight | None, reward_sight: Sight | None) -> Sight | None:
    """Return the reward's sight, unless it sees what the policy's does: that is shared."""
    shared = sight and reward_sight and sight.identity == reward_sight.identity
    return None if shared else reward_sight
