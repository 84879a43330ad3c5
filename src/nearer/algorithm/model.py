"""The contract of a foundation model, and how it serves as policy and as detector.

One model has two outputs for an observation: an action distribution and a distribution over
steps-to-go (paper, fig. 1). Stage 1 may train a third: which instruction an episode had. Training
and serving show it observations through the same `inputs_of`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nearer.algorithm.steps_to_go import StepsToGoBins, summary
from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Ended
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Decision, Rngs, Termination
from nearer.core.spaces import Spaces
from nearer.core.vision import VisionEncoder

if TYPE_CHECKING:
    from nearer.algorithm.demonstrations import Demonstrations


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A batch of model inputs, on the model's device.

    Attributes:
        state: proprioception and environment state side by side, in the env's units.
        features: of the model's vision encoder; zero columns without one.
        instructions: one a row.
    """

    state: Float[Tensor, "samples state"]
    features: Float[Tensor, "samples features"]
    instructions: Sequence[str]

    def __len__(self) -> int:
        return len(self.state)

    def rows(self, index: Int64[Tensor, "rows"] | slice) -> "Inputs":
        """Return these rows."""
        if isinstance(index, slice):
            instructions = self.instructions[index]
        else:
            instructions = [self.instructions[row] for row in cast(list[int], index.tolist())]
        return Inputs(
            state=self.state[index], features=self.features[index], instructions=instructions
        )


def join_inputs(parts: Sequence[Inputs]) -> Inputs:
    """Return several batches as one."""
    return Inputs(
        state=torch.cat([part.state for part in parts]),
        features=torch.cat([part.features for part in parts]),
        instructions=[text for part in parts for text in part.instructions],
    )


class FoundationModel(nn.Module, ABC):
    """One model with an action output and a steps-to-go output (paper, fig. 1).

    Attributes:
        bins: the classes of the steps-to-go output.
        spaces: the sizes of state and action it was built for.
        only_instruction: of its demonstrations, where they all have the same; None: they do not.
        normalisation: names of the buffers that `normalise_by` sets; a checkpoint keeps their hash,
            so that weights and config.json of different ones are never mixed.
    """

    bins: StepsToGoBins
    spaces: Spaces
    only_instruction: str | None = None
    normalisation: ClassVar[tuple[str, ...]] = ()

    @property
    def vision_encoder(self) -> VisionEncoder | None:
        """Return the frozen part that encodes images; None for a model that reads none."""
        return None

    @property
    def sharded_blocks(self) -> Sequence[nn.Module]:
        """Return the parts that `--processes fsdp` gathers one at a time, such as layers.

        Each must be called through its `forward`; what is in none of them is gathered as a whole.
        """
        return ()

    @abstractmethod
    def config(self) -> dict[str, object]:
        """Return what rebuilds the module without its weights, as JSON values."""

    @abstractmethod
    def normalise_by(self, inputs: Inputs, actions: Float[Tensor, "acted action"]) -> None:
        """Keep the statistics of the demonstrations with the weights.

        Args:
            inputs: every frame; without features where these are stacked (`StackingVisionEncoder`).
            actions: the demonstrated ones, in the env's units.
        """

    def learn_in_hindsight(self, demonstrations: "Demonstrations", seed: int) -> None:
        """Learn what later frames of demonstrations tell of earlier ones; nothing in most models.

        What is learned here is kept as it is by both stages.

        Args:
            demonstrations: to train on, after `normalise_by`.
            seed: of the minibatches.
        """

    @abstractmethod
    def sample(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[Float[Tensor, "samples action"], Float[Tensor, "samples"]]:
        """Draw an action a row, in the env's units, with its exact log-probability."""

    @abstractmethod
    def log_prob(
        self, inputs: Inputs, actions: Float[Tensor, "samples action"]
    ) -> Float[Tensor, "samples"]:
        """Return log p_action(a | o, g) of actions in the env's units."""

    @abstractmethod
    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""

    def sample_and_steps_to_go(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[
        Float[Tensor, "samples action"], Float[Tensor, "samples"], Float[Tensor, "samples bins"]
    ]:
        """Return what `sample` and `steps_to_go_logits` return for the same observations.

        A model that can compute both in one forward pass overrides this.
        """
        actions, log_prob = self.sample(inputs, rngs)
        return actions, log_prob, self.steps_to_go_logits(inputs)

    def files(self) -> Mapping[str, str]:
        """Return further files that rebuild the module, by name; none for most."""
        return {}

    @abstractmethod
    def normalised_inputs(self, inputs: Inputs) -> Float[Tensor, "samples inputs"]:
        """Return what the trained part reads of an observation, as numbers of about unit size."""

    def instruction_scores(self, first: Inputs, last: Inputs) -> Float[Tensor, "samples"]:
        """Return how well each instruction fits the first and last frame of an episode.

        Unnormalised log-probabilities; they are compared among candidates for the same episode.
        Only a model with the third objective overrides this.

        Raises:
            ConfigError: this model has no such output.
        """
        raise ConfigError(
            "--other-instructions must be 0 for a model without the instruction objective, "
            f"got {type(self).__name__}; leave it out, or choose small-vla"
        )


def inputs_of(observation: EncodedObservation, instructions: Sequence[str]) -> Inputs:
    """Return the one form in which training and serving show observations to a policy."""
    return Inputs(
        state=torch.from_numpy(observation.state),
        features=torch.from_numpy(observation.features),
        instructions=instructions,
    )


def reward_inputs_of(observation: EncodedObservation, instructions: Sequence[str]) -> Inputs:
    """Return the same for the reward model: its own features where it has another encoder."""
    if not observation.reward_features.shape[-1]:
        return inputs_of(observation, instructions)
    return Inputs(
        state=torch.from_numpy(observation.state),
        features=torch.from_numpy(observation.reward_features),
        instructions=instructions,
    )


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """A foundation model behind the `Policy` contract. It has no memory."""

    model: FoundationModel

    def begin(self, robots: Int64[Array, "robots"], rngs: Rngs) -> None:
        """Do nothing: every decision depends on the observation alone."""

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        rngs: Rngs,
    ) -> Decision:
        """Sample one action a robot."""
        with torch.inference_mode():
            actions, log_prob = self.model.sample(inputs_of(observation, instructions), rngs)
        return Decision(actions=actions.numpy(), log_prob=log_prob.numpy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Success as the frozen model predicts it: d(o, g) <= s (paper, eq. 3)."""

    model: FoundationModel
    threshold_steps: float
    ended_as = Ended.SUCCESS_DETECTED

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Return who is done, and the predictions that say so."""
        with torch.inference_mode():
            logits = self.model.steps_to_go_logits(reward_inputs_of(observation, instructions))
            prediction = summary(logits.softmax(dim=-1), self.model.bins)
        return Termination(done=prediction.mean <= self.threshold_steps, prediction=prediction)
