"""One robot's policy and reward model: numpy observations in, actions and steps-to-go out.

`nearer serve` keeps one `Agent` a connection; a program with a robot of its own makes one itself.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from nearer.algorithm.model import FoundationModel, inputs_of, reward_inputs_of
from nearer.algorithm.steps_to_go import expected_steps, is_solved, spread_steps
from nearer.core.arrays import Array
from nearer.core.chunk_actions import join_actions, split_decisions
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.errors import CheckpointError, ConfigError, NearerError
from nearer.core.observation_checks import as_rows, check_observation
from nearer.core.seeds import Purpose, generator
from nearer.core.spaces import Camera
from nearer.evaluation.reward_model import load_policy_and_reward
from nearer.fleets.encoded import StatefulEncoder, encode_episode, separate_reward_encoder
from nearer.fleets.gym import RawObservation
from nearer.fleets.observation_reader import read_observation

_ROBOT = np.zeros(1, dtype=np.int64)  # every agent's robot is slot 0 of a memory of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a reward model predicts of one observation.

    Attributes:
        steps_to_go: d(o, g), in control steps.
        steps_to_go_std: standard deviation of p(k | o, g), in control steps.
        success: d(o, g) <= s; None without a calibrated threshold.
    """

    steps_to_go: float
    steps_to_go_std: float
    success: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionChunk(Estimate):
    """What a policy chooses on one observation, beside what the reward model predicts of it.

    Attributes:
        actions: to execute now, a row a control step, in the env's units.
        log_prob: log p(a | o, g) of these actions as one decision.
    """

    actions: Float32[Array, "chunk axes"]
    log_prob: float


class Agent:
    """A policy and its reward model for one robot, with what both remember of its episode.

        agent = nearer.Agent.load("RUN or user/name")
        observation, _ = env.reset()
        answer = agent.act(observation, "touch the goal", reset=True)
        observation, *_ = env.step(answer.actions[0])

    Not for several threads at once.

    Attributes:
        rng: the actions are sampled with it, and nothing else.
        instruction: what the robot was last asked to do; None before the first observation.

    Args:
        policy: acts.
        reward_model: predicts steps-to-go; may be the policy itself.
        threshold_steps: s, in the reward model's own steps; None: nothing is said about success.
        rng: of the actions.
    """

    def __init__(
        self,
        policy: FoundationModel,
        reward_model: FoundationModel,
        threshold_steps: float | None,
        rng: np.random.Generator,
    ) -> None:
        self.rng = rng
        self.instruction: str | None = None
        self._policy, self._reward_model = policy, reward_model
        self._threshold = threshold_steps
        encoders = {
            "features": policy.vision_encoder,
            "reward_features": separate_reward_encoder(
                policy.vision_encoder, reward_model.vision_encoder
            ),
        }
        self._encoders = {
            name: StatefulEncoder(encoder, 1) for name, encoder in encoders.items() if encoder
        }

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        reward: str | Path | None = None,
        threshold: float | None = None,
        seed: int = 0,
    ) -> "Agent":
        """Return the agent of a run, a checkpoint or a model on the hub.

        Args:
            source: a run of either stage, a checkpoint of it, or a hub id (user/name).
            reward: the same, of the reward model; None: the Stage-1 run's that `source` is or came
                from.
            threshold: s of success, in the reward model's own steps (control steps, or chunks);
                None: as calibrated.
            seed: of the actions.

        Raises:
            CheckpointError: no model is there, or its files are damaged.
            ConfigError: the reward model reads other observations than the policy.
        """
        policy, reward_model = load_policy_and_reward(
            Path(source), Path(reward) if reward else None, threshold
        )
        rng = generator(Purpose.SERVING, seed, 0)
        return cls(policy, reward_model.model, reward_model.threshold_steps, rng)

    @property
    def threshold_steps(self) -> float | None:
        """Return s, in control steps; None where it was not calibrated."""
        chunk = self._reward_model.spaces.chunking.chunk
        return None if self._threshold is None else self._threshold * chunk

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """Return the cameras whose images an observation must have."""
        return self._policy.spaces.cameras if self._encoders else ()

    def act(
        self,
        observation: Observation | RawObservation,
        instruction: str | None = None,
        *,
        reset: bool = False,
    ) -> ActionChunk:
        """Sample the actions of the next control steps, with steps-to-go of this observation.

        Args:
            observation: of one instant, in the env's units; or what a Gymnasium env with lerobot's
                keys returns (`agent_pos`, `environment_state`, `pixels`).
            instruction: None: as before. Another one starts an episode, as `reset` does.
            reset: an episode starts with this observation; vision encoders forget the frame before.

        Raises:
            EnvError: the observation has other sizes or cameras than the model was trained with.
            ConfigError: the model does not know the instruction.
        """
        with self._unchanged_if_refused(), torch.inference_mode():
            encoded, instruction = self._encoded(observation, instruction, reset=reset)
            inputs = inputs_of(encoded, [instruction])
            if self._reward_model is self._policy:
                decision, log_prob, logits = self._policy.sample_and_steps_to_go(inputs, [self.rng])
            else:
                logits = self._logits(encoded, instruction)
                decision, log_prob = self._policy.sample(inputs, [self.rng])
            estimate = self._estimate(logits)
            chunking = self._policy.spaces.chunking
            actions = split_decisions(chunking, decision.numpy(), encoded.agent_pos)[0]
            _check_finite("every action", actions)
        return ActionChunk(
            actions=actions,
            log_prob=float(log_prob[0]),
            steps_to_go=estimate.steps_to_go,
            steps_to_go_std=estimate.steps_to_go_std,
            success=estimate.success,
        )

    def observe(
        self,
        observation: Observation | RawObservation,
        instruction: str | None = None,
        *,
        reset: bool = False,
    ) -> Estimate:
        """Return steps-to-go of this observation alone; nothing is sampled.

        An agent that acts in chunks is shown the observations between two decisions this way.

        Args:
            observation: see `act`.
            instruction: see `act`.
            reset: see `act`.

        Raises:
            EnvError: see `act`.
            ConfigError: see `act`.
        """
        with self._unchanged_if_refused(), torch.inference_mode():
            encoded, instruction = self._encoded(observation, instruction, reset=reset)
            return self._estimate(self._logits(encoded, instruction))

    def log_prob(
        self, observations: Observation, actions: Float32[Array, "steps axes"], instruction: str
    ) -> Float32[Array, "decisions"]:
        """Return log p(a_t | o_t, g) of an episode's actions, one a decision of the policy.

        The agent's own robot is not affected.

        Args:
            observations: of an episode from its start, one row a control step; a last one that no
                action follows may be there.
            actions: in the env's units; a remainder of less than a chunk is left out.
            instruction: g.

        Raises:
            EnvError: see `act`.
            ConfigError: see `act`, or there are fewer observations than actions.
        """
        spaces = self._policy.spaces
        observations = as_rows(observations)
        check_observation(observations, spaces, self.cameras)
        chunk = spaces.chunking.chunk
        count = len(actions) // chunk
        if count == 0:
            return np.zeros(0, np.float32)
        if len(observations.agent_pos) < len(actions):
            raise ConfigError(
                f"there must be an observation for each of the {len(actions)} actions, got "
                f"{len(observations.agent_pos)}; pass the whole episode"
            )
        decided = np.arange(count) * chunk
        joined = join_actions(
            spaces.chunking,
            np.asarray(actions, np.float32)[: count * chunk].reshape(count, chunk, -1),
            observations.agent_pos[decided],
        )
        encoded = encode_episode(self._policy.vision_encoder, observations, instruction)
        inputs = inputs_of(encoded.rows(decided), [instruction] * count)
        with torch.inference_mode():
            return self._policy.log_prob(inputs, torch.from_numpy(joined)).numpy()

    @contextmanager
    def _unchanged_if_refused(self) -> Generator[None]:
        """Forget an observation or instruction that turns out to be unknown to a model."""
        instruction = self.instruction
        memories = {name: encoder.memory for name, encoder in self._encoders.items()}
        try:
            yield
        except NearerError:
            self.instruction = instruction
            for name, memory in memories.items():
                self._encoders[name].memory = memory
            raise

    def _encoded(
        self,
        observation: Observation | RawObservation,
        instruction: str | None,
        *,
        reset: bool,
    ) -> tuple[EncodedObservation, str]:
        """Return the observation with its features, and the instruction it is seen with."""
        if not isinstance(observation, Observation):
            observation = read_observation(observation)
        observation = as_rows(observation)
        check_observation(observation, self._policy.spaces, self.cameras)
        instruction = self.instruction or "" if instruction is None else instruction
        at_start = reset or instruction != self.instruction
        features = {
            name: encoder.encode(_ROBOT, observation, [instruction], at_start=at_start)
            for name, encoder in self._encoders.items()
        }
        self.instruction = instruction
        encoded = EncodedObservation.without_features(replace(observation, images={}))
        return replace(encoded, **features), instruction

    def _logits(self, encoded: EncodedObservation, instruction: str) -> Float[Tensor, "1 bins"]:
        return self._reward_model.steps_to_go_logits(reward_inputs_of(encoded, [instruction]))

    def _estimate(self, logits: Float[Tensor, "1 bins"]) -> Estimate:
        probabilities = logits.softmax(dim=-1)
        steps = expected_steps(probabilities, self._reward_model.bins)
        std = spread_steps(probabilities, self._reward_model.bins)
        chunk = self._reward_model.spaces.chunking.chunk  # d counts decisions, people control steps
        threshold = self._threshold
        _check_finite("steps-to-go", steps.numpy())
        return Estimate(
            steps_to_go=float(steps[0]) * chunk,
            steps_to_go_std=float(std[0]) * chunk,
            success=None if threshold is None else bool(is_solved(steps, threshold)[0]),
        )


def _check_finite(what: str, values: Float32[Array, "*shape"]) -> None:
    """Raise CheckpointError before a robot is told what is no number."""
    if not np.isfinite(values).all():
        raise CheckpointError(
            f"{what} must be finite, got {values.tolist()}; nothing was done, look at the "
            "observation and at the checkpoint's weights"
        )
