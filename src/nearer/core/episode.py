"""The values one trajectory passes through: Observation -> Episode -> ScoredEpisode.

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
    SUCCESS_TRUE = "success_true"  # the simulator's truth: evaluation and demonstrations alone
    TIME_LIMIT = "time_limit"
    OPERATOR = "operator"
    ENVIRONMENT = "environment"  # the env stopped by itself; nothing is concluded from it
    FAULT = "fault"


_UNSEEN = np.zeros(0, dtype=np.float32)


def _unseen() -> Array:
    return _UNSEEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What robots sense at one instant, or one robot over many instants.

    Attributes:
        agent_pos: proprioception, in the env's own units.
        environment_state: further numbers such as a goal; zero columns where there are none.
        images: camera name -> RGB picture.
        features: what a model's frozen sight made of the pictures (`protocols.Sight`); zero columns
            where none has looked.
        reward_features: the same of the reward model's sight; zero columns where the policy's
            is its own, so that every frame is looked at once.
    """

    agent_pos: Float32[Array, "*batch joints"]
    environment_state: Float32[Array, "*batch facts"]
    images: Mapping[str, UInt8[Array, "*batch h w c"]] = field(default_factory=dict[str, Array])
    features: Float32[Array, "*batch features"] = field(default_factory=_unseen)
    reward_features: Float32[Array, "*batch reward_features"] = field(default_factory=_unseen)

    def __post_init__(self) -> None:
        none = np.zeros((*self.agent_pos.shape[:-1], 0), dtype=np.float32)
        for name in ("features", "reward_features"):
            if getattr(self, name) is _UNSEEN:
                object.__setattr__(self, name, none)

    @property
    def state(self) -> Float32[Array, "*batch state"]:
        """Return proprioception and environment state side by side."""
        return np.concatenate([self.agent_pos, self.environment_state], axis=-1)

    def rows(self, index: Array | slice) -> "Observation":
        """Return the chosen rows of the first axis."""
        return Observation(
            agent_pos=self.agent_pos[index],
            environment_state=self.environment_state[index],
            images={camera: picture[index] for camera, picture in self.images.items()},
            features=self.features[index],
            reward_features=self.reward_features[index],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One attempt at one instruction, as the collector returns it.

    It holds one observation more than actions: d is also asked of the last observation.

    Attributes:
        robot: slot of the robot that acted.
        seed: fixes the env's start and the policy's sampling.
        policy_version: iterations of Stage 2 that the acting policy had learned from.
        log_prob: log p(a_t | o_t, g) under the policy that acted, at the time it acted.
    """

    robot: int
    seed: int
    instruction: str
    policy_version: int
    observations: Observation
    actions: Float32[Array, "steps action"]
    log_prob: Float32[Array, "steps"]
    ended: Ended

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
