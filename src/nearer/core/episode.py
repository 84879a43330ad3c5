"""The values a trajectory passes through.

    Observation -> EncodedObservation -> Episode -> ScoredEpisode

Nothing here needs torch, so a robot's own machine can import it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from nearer.core.arrays import Array


class Ended(Enum):
    """How an episode ended; never one bit, since only some of these say anything about the task."""

    SUCCESS_DETECTED = "success_detected"  # the frozen model's own detector: d <= s
    SUCCESS_TRUE = "success_true"  # ground truth: evaluation and demonstrations alone
    TIME_LIMIT = "time_limit"
    OPERATOR = "operator"
    ENVIRONMENT = "environment"  # the env stopped by itself; nothing is concluded from it
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What robots sense at one instant, or one robot over many instants; nothing else.

    Attributes:
        agent_pos: proprioception, in the env's own units.
        environment_state: further numbers such as a goal; zero columns where there are none.
        images: camera name -> RGB image.
    """

    agent_pos: Float32[Array, "*batch joints"]
    environment_state: Float32[Array, "*batch env_state"]
    images: Mapping[str, UInt8[Array, "*batch h w c"]] = field(default_factory=dict[str, Array])

    @property
    def state(self) -> Float32[Array, "*batch state"]:
        """Return proprioception and environment state side by side."""
        return np.concatenate([self.agent_pos, self.environment_state], axis=-1)

    def rows(self, index: Array | slice) -> "Observation":
        """Return these rows of the first axis."""
        return Observation(
            agent_pos=self.agent_pos[index],
            environment_state=self.environment_state[index],
            images={camera: image[index] for camera, image in self.images.items()},
        )

    def updated(self, index: Array, newer: "Observation") -> "Observation":
        """Return a copy in which these rows of the first axis are those of `newer`."""
        return Observation(
            agent_pos=_updated(self.agent_pos, index, newer.agent_pos),
            environment_state=_updated(self.environment_state, index, newer.environment_state),
            images={
                camera: _updated(image, index, newer.images[camera])
                for camera, image in self.images.items()
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedObservation:
    """An observation beside what frozen vision encoders made of its images.

    An image is encoded once, when it arrives; policy, detector, reward and update share the result.

    Attributes:
        observation: without its images, once they have been encoded.
        features: of the policy's vision encoder; zero columns for a policy without one.
        reward_features: of the reward model's vision encoder; zero columns where it shares the
            policy's, or has none.
    """

    observation: Observation
    features: Float32[Array, "*batch features"]
    reward_features: Float32[Array, "*batch reward_features"]

    @classmethod
    def without_features(cls, observation: Observation) -> "EncodedObservation":
        """Return an observation that no vision encoder has read."""
        none = np.zeros((*observation.agent_pos.shape[:-1], 0), dtype=np.float32)
        return cls(observation=observation, features=none, reward_features=none)

    @property
    def agent_pos(self) -> Float32[Array, "*batch joints"]:
        """Return proprioception, in the env's own units."""
        return self.observation.agent_pos

    @property
    def environment_state(self) -> Float32[Array, "*batch env_state"]:
        """Return further numbers such as a goal."""
        return self.observation.environment_state

    @property
    def state(self) -> Float32[Array, "*batch state"]:
        """Return proprioception and environment state side by side."""
        return self.observation.state

    def rows(self, index: Array | slice) -> "EncodedObservation":
        """Return these rows of the first axis."""
        return EncodedObservation(
            observation=self.observation.rows(index),
            features=self.features[index],
            reward_features=self.reward_features[index],
        )

    def updated(self, index: Array, newer: "EncodedObservation") -> "EncodedObservation":
        """Return a copy in which these rows of the first axis are those of `newer`."""
        return EncodedObservation(
            observation=self.observation.updated(index, newer.observation),
            features=_updated(self.features, index, newer.features),
            reward_features=_updated(self.reward_features, index, newer.reward_features),
        )


def _updated(values: Array, index: Array, newer: Array) -> Array:
    values = values.copy()
    values[index] = newer
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsToGoPrediction:
    """A frozen model's distribution p(k | o, g) over steps-to-go, summed up (paper, eq. 1).

    Attributes:
        mean: d(o, g) = E[k], in decisions of the model: control steps, or action chunks.
        std: standard deviation of k, in the same unit.
        quantiles: 10 %, 50 % and 90 % quantiles of k, in the same unit.
    """

    mean: Float32[Array, "*batch"]
    std: Float32[Array, "*batch"]
    quantiles: Float32[Array, "*batch 3"]

    def rows(self, index: Array | slice) -> "StepsToGoPrediction":
        """Return these rows of the first axis."""
        return StepsToGoPrediction(
            mean=self.mean[index], std=self.std[index], quantiles=self.quantiles[index]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One attempt at one instruction, as a rollout returns it.

    It holds one observation more than actions: the last one is labelled with d as well.

    Attributes:
        robot: slot of the robot that acted.
        seed: fixes the env's start and the policy's sampling.
        policy_version: iterations of Stage 2 that the acting policy had learned from.
        log_prob: log p(a_t | o_t, g) under the policy that acted, at the time it acted.
        prediction: what the termination rule's frozen model predicted of every observation; None
            for a rule that asks no model (ground truth, time limit alone).
    """

    robot: int
    seed: int
    instruction: str
    policy_version: int
    observations: EncodedObservation
    actions: Float32[Array, "steps action"]
    log_prob: Float32[Array, "steps"]
    ended: Ended
    prediction: StepsToGoPrediction | None = None

    @property
    def num_steps(self) -> int:
        """Count the decisions: control steps, unless the policy acts in chunks of several."""
        return len(self.actions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredEpisode:
    """An episode with what the frozen Stage-1 model says of it (paper, eqs. 1-4).

    Attributes:
        steps_to_go: d(o_t, g), in control steps.
        steps_to_go_std: standard deviation of p(k | o_t, g), in control steps.
        quantiles: 10 %, 50 % and 90 % quantiles of p(k | o_t, g), in control steps.
        rewards: r_t = d(o_t, g) - d(o_{t+1}, g), plus the bonus where a recipe sets one.
        returns: R_t, discounted Monte-Carlo sum of the rewards.
        solved: d(o_t, g) <= s.
    """

    episode: Episode
    steps_to_go: Float32[Array, "obs"]
    steps_to_go_std: Float32[Array, "obs"]
    quantiles: Float32[Array, "obs 3"]
    rewards: Float32[Array, "steps"]
    returns: Float32[Array, "steps"]
    solved: Bool[Array, "obs"]

    @property
    def progress_steps(self) -> float:
        """Return d(o_0, g) - d(o_T, g): how many steps nearer the episode brought the robot."""
        return float(self.steps_to_go[0] - self.steps_to_go[-1])
