"""A fleet whose images are encoded once, by the frozen vision encoder of a model.

The vision encoder is frozen when a robot acts (in the paper: in Stage 2), so its output for a frame
never changes: it is computed when the frame arrives, kept beside the observation, and shared by
policy, detector, reward and update. That is exact, and the largest saving there is.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.interfaces import Decision, Fleet, Policy, Rngs, Sensed, Starts
from nearer.core.vision import VisionEncoder
from nearer.fleets.wrapper import FleetWrapper

_FRAMES_AT_ONCE = 128  # encoded in one pass; bounds the memory of a long episode


class StatefulEncoder:
    """A vision encoder with its memory of the frame before, robot by robot."""

    def __init__(self, vision_encoder: VisionEncoder, num_robots: int) -> None:
        self._vision_encoder = vision_encoder
        self._features = np.zeros((num_robots, vision_encoder.width), dtype=np.float32)

    @property
    def memory(self) -> Float32[Array, "robots features"]:
        """Return what is remembered of the frame before; may be set, to go back to it."""
        return self._features.copy()

    @memory.setter
    def memory(self, features: Float32[Array, "robots features"]) -> None:
        self._features[:] = features

    def encode(
        self,
        robots: Int64[Array, "robots"],
        observation: Observation,
        instructions: Sequence[str],
        *,
        at_start: bool,
    ) -> Float32[Array, "robots features"]:
        """Return the features of these images, and remember them."""
        before = None if at_start else self._features[robots]
        encodings = self._vision_encoder.encode(observation.images, instructions)
        self._features[robots] = self._vision_encoder.track(before, encodings)
        return self._features[robots]


def encode_episode(
    vision_encoder: VisionEncoder | None, observations: Observation, instruction: str
) -> EncodedObservation:
    """Return an episode's observations with their features in place of their images.

    Args:
        vision_encoder: of a policy or a reward model; None: it reads no images.
        observations: of one episode from its start, one row a control step.
        instruction: what the robot was asked to do.
    """
    frames = len(observations.agent_pos)
    encoded = EncodedObservation.without_features(replace(observations, images={}))
    if vision_encoder is None:
        return encoded
    features = np.zeros((frames, vision_encoder.width), dtype=np.float32)
    before = None
    for first in range(0, frames, _FRAMES_AT_ONCE):
        part = slice(first, min(first + _FRAMES_AT_ONCE, frames))
        images = {camera: image[part] for camera, image in observations.images.items()}
        encodings = vision_encoder.encode(images, [instruction] * (part.stop - first))
        for row in range(part.stop - first):  # each frame's features build on those of the last
            before = vision_encoder.track(before, encodings[row : row + 1])
            features[first + row] = before[0]
    return replace(encoded, features=features)


@runtime_checkable
class Encodes(Protocol):
    """Turns images into features, here or elsewhere; remembers the frame before of each robot."""

    def encode(
        self,
        robots: Int64[Array, "robots"],
        observation: Observation,
        instructions: Sequence[str],
        *,
        at_start: bool,
    ) -> EncodedObservation:
        """Return observations with features in place of their images."""
        ...


class Encoders:
    """The vision encoders of a policy and a reward model, with their memory of robots.

    Args:
        vision_encoder: the policy's; None: it reads no images.
        reward_vision_encoder: the reward model's; None: it shares the policy's, or reads no images.
        num_robots: slots.
    """

    def __init__(
        self,
        vision_encoder: VisionEncoder | None,
        reward_vision_encoder: VisionEncoder | None,
        num_robots: int,
    ) -> None:
        self._encoder = _stateful(vision_encoder, num_robots)
        self._reward_encoder = _stateful(reward_vision_encoder, num_robots)

    def encode(
        self,
        robots: Int64[Array, "robots"],
        observation: Observation,
        instructions: Sequence[str],
        *,
        at_start: bool,
    ) -> EncodedObservation:
        """Return observations with features in place of their images."""

        def features(encoder: StatefulEncoder | None) -> Float32[Array, "robots features"]:
            if encoder is None:
                return np.zeros((len(robots), 0), dtype=np.float32)
            return encoder.encode(robots, observation, instructions, at_start=at_start)

        return EncodedObservation(
            observation=replace(observation, images={}),
            features=features(self._encoder),
            reward_features=features(self._reward_encoder),
        )


class EncodingPolicy:
    """A policy that encodes images itself, on a fleet whose observations keep theirs.

    Args:
        policy: acts on features.
        vision_encoder: the policy's.
        num_robots: slots.
    """

    def __init__(self, policy: Policy, vision_encoder: VisionEncoder, num_robots: int) -> None:
        self._policy = policy
        self._encoder = StatefulEncoder(vision_encoder, num_robots)
        self._width = vision_encoder.width
        self._at_start = np.zeros(num_robots, dtype=bool)

    def begin(self, robots: Int64[Array, "robots"], rngs: Rngs) -> None:
        """Forget what these robots saw before."""
        self._at_start[robots] = True
        self._policy.begin(robots, rngs)

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        rngs: Rngs,
    ) -> Decision:
        """Encode the images, and let the policy decide."""
        images = observation.observation
        features = np.zeros((len(robots), self._width), dtype=np.float32)
        for at_start in (True, False):
            rows = np.flatnonzero(self._at_start[robots] == at_start)
            if len(rows):
                features[rows] = self._encoder.encode(
                    robots[rows],
                    images.rows(rows),
                    [instructions[row] for row in rows.tolist()],
                    at_start=at_start,
                )
        self._at_start[robots] = False
        seen = replace(observation, observation=replace(images, images={}), features=features)
        return self._policy.act(seen, instructions, robots, rngs)


class EncodedFleet(FleetWrapper):
    """A fleet whose observations come with features in place of their images.

    Args:
        fleet: robots with cameras.
        encoders: read the images.
    """

    def __init__(self, fleet: Fleet, encoders: Encodes) -> None:
        super().__init__(fleet)
        self._encoders = encoders
        self._instructions = [""] * fleet.num_robots

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots and encode their images."""
        starts = super().reset(robots, seeds)
        for robot, instruction in zip(robots.tolist(), starts.instructions, strict=True):
            self._instructions[robot] = instruction
        return replace(starts, observation=self._encoded(robots, starts, at_start=True))

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step the fleet's robots and encode their images."""
        sensed = super().step(robots, actions)
        return replace(sensed, observation=self._encoded(robots, sensed, at_start=False))

    def _encoded(
        self, robots: Int64[Array, "robots"], sensed: Starts | Sensed, *, at_start: bool
    ) -> EncodedObservation:
        observation = sensed.observation
        assert isinstance(observation, Observation), "images are encoded once"
        instructions = [self._instructions[robot] for robot in cast(list[int], robots.tolist())]
        return self._encoders.encode(robots, observation, instructions, at_start=at_start)


def encoded(
    fleet: Fleet,
    vision_encoder: VisionEncoder | None,
    reward_vision_encoder: VisionEncoder | None = None,
) -> Fleet:
    """Return the fleet with encoded observations; as it is, where no model has a vision encoder.

    Args:
        fleet: robots, with cameras where there is a vision encoder.
        vision_encoder: the policy's.
        reward_vision_encoder: the reward model's.
    """
    encoders = encoders_of(vision_encoder, reward_vision_encoder, fleet.num_robots)
    return EncodedFleet(fleet, encoders) if encoders else fleet


def encoders_of(
    vision_encoder: VisionEncoder | None,
    reward_vision_encoder: VisionEncoder | None,
    num_robots: int,
) -> Encoders | None:
    """Return the vision encoders of two models for so many robots; None: neither has one."""
    other = separate_reward_encoder(vision_encoder, reward_vision_encoder)
    return Encoders(vision_encoder, other, num_robots) if vision_encoder or other else None


def _stateful(vision_encoder: VisionEncoder | None, num_robots: int) -> StatefulEncoder | None:
    return StatefulEncoder(vision_encoder, num_robots) if vision_encoder else None


def feature_widths(
    vision_encoder: VisionEncoder | None, reward_vision_encoder: VisionEncoder | None
) -> tuple[int, int]:
    """Return how many features a frame has for the policy, and besides for the reward model."""
    other = separate_reward_encoder(vision_encoder, reward_vision_encoder)
    return vision_encoder.width if vision_encoder else 0, other.width if other else 0


def separate_reward_encoder(
    vision_encoder: VisionEncoder | None, reward_vision_encoder: VisionEncoder | None
) -> VisionEncoder | None:
    """Return the reward model's vision encoder, unless it equals the policy's, which is shared."""
    shared = (
        vision_encoder
        and reward_vision_encoder
        and vision_encoder.identity == reward_vision_encoder.identity
    )
    return None if shared else reward_vision_encoder
