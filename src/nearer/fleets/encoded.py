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
from nearer.core.vision import VisionEncoder
from nearer.fleets.wrapper import FleetWrapper


class StatefulEncoder:
    """A sight with its memory of the frame before, robot by robot."""

    def __init__(self, vision_encoder: VisionEncoder, num_robots: int) -> None:
        self._sight = vision_encoder
        self._features = np.zeros((num_robots, vision_encoder.width), dtype=np.float32)

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
        encodings = self._sight.encode(observation.images, instructions)
        self._features[robots] = self._sight.track(before, encodings)
        return self._features[robots]


class EncodedFleet(FleetWrapper):
    """A fleet whose observations come with features in place of their pictures.

    Args:
        fleet: robots with cameras.
        vision_encoder: the policy's; None: it sees no pictures.
        reward_vision_encoder: the reward model's; None: it shares the policy's, or has none.
    """

    def __init__(
        self,
        fleet: Fleet,
        vision_encoder: VisionEncoder | None,
        reward_vision_encoder: VisionEncoder | None = None,
    ) -> None:
        super().__init__(fleet)
        named = {"features": vision_encoder, "reward_features": reward_vision_encoder}
        self._followers = {
            name: StatefulEncoder(one, fleet.num_robots) for name, one in named.items() if one
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


def seeing(
    fleet: Fleet,
    vision_encoder: VisionEncoder | None,
    reward_vision_encoder: VisionEncoder | None = None,
) -> Fleet:
    """Return the fleet with features in its observations; as it is, where no model has a sight.

    Args:
        fleet: robots, with cameras where there is a sight.
        vision_encoder: the policy's.
        reward_vision_encoder: the reward model's.
    """
    other = separate_reward_encoder(vision_encoder, reward_vision_encoder)
    return EncodedFleet(fleet, vision_encoder, other) if vision_encoder or other else fleet


def feature_widths(
    vision_encoder: VisionEncoder | None, reward_vision_encoder: VisionEncoder | None
) -> tuple[int, int]:
    """Return the numbers a frame that `seeing` gives for the policy, and for the reward beside."""
    other = separate_reward_encoder(vision_encoder, reward_vision_encoder)
    return vision_encoder.width if vision_encoder else 0, other.width if other else 0


def separate_reward_encoder(
    vision_encoder: VisionEncoder | None, reward_vision_encoder: VisionEncoder | None
) -> VisionEncoder | None:
    """Return the reward's sight, unless it sees what the policy's does: that is shared."""
    shared = (
        vision_encoder
        and reward_vision_encoder
        and vision_encoder.identity == reward_vision_encoder.identity
    )
    return None if shared else reward_vision_encoder
