"""What a reward model predicts of labelled frames, part by part: p(k | o, g), and its inputs."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from nearer.algorithm.model import FoundationModel, Inputs, reward_inputs_of
from nearer.algorithm.score import steps_to_go_probabilities
from nearer.core.arrays import Array
from nearer.core.episode import Episode

FRAMES_AT_ONCE = 8192
"""At most; fewer where a vision encoder makes much of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePredictions:
    """What a reward model predicts of frames, and what it reads of them.

    Attributes:
        probabilities: p(k | o, g).
        normalised_inputs: what baselines read as well.
    """

    probabilities: Float32[Array, "frames bins"]
    normalised_inputs: Float32[Array, "frames inputs"]

    def columns(self) -> dict[str, Array]:
        """Return these as columns of a cache; `of_columns` is the inverse."""
        return {
            "probabilities": self.probabilities,
            "normalised_inputs": self.normalised_inputs,
        }

    @classmethod
    def of_columns(cls, columns: Mapping[str, Array]) -> "FramePredictions":
        """Return the predictions that were kept as columns."""
        return cls(
            probabilities=columns["probabilities"],
            normalised_inputs=columns["normalised_inputs"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPredictions:
    """Labelled episodes and what a reward model predicts of them, frames one after the other.

    What its vision encoder made of them is not kept: of many frames it would not fit the memory.

    Attributes:
        success: whether the instruction was done, by ground truth.
        lengths: observations an episode.
        instructions: one an episode.
    """

    predictions: FramePredictions
    success: Bool[Array, "frames"]
    lengths: Int64[Array, "episodes"]
    instructions: tuple[str, ...]

    def columns(self) -> dict[str, Array]:
        """Return these as columns of a cache; `of_columns` is the inverse."""
        instructions = json.dumps(self.instructions).encode()
        return self.predictions.columns() | {
            "success": self.success,
            "lengths": self.lengths,
            "instructions": np.frombuffer(instructions, dtype=np.uint8),
        }

    @classmethod
    def of_columns(cls, columns: Mapping[str, Array]) -> "LabelledPredictions":
        """Return the labelled predictions that were kept as columns."""
        return cls(
            predictions=FramePredictions.of_columns(columns),
            success=columns["success"],
            lengths=columns["lengths"],
            instructions=tuple(json.loads(columns["instructions"].tobytes())),
        )


def reward_inputs(episode: Episode) -> Inputs:
    """Return what the reward model reads of an episode's frames."""
    return reward_inputs_of(episode.observations, [episode.instruction] * (episode.num_steps + 1))


def normalised_inputs_of(
    model: FoundationModel, parts: Iterable[Inputs]
) -> Float32[Array, "frames inputs"]:
    """Return the normalised inputs of frames that come in parts, one part at a time."""
    with torch.inference_mode():
        return torch.cat([model.normalised_inputs(part) for part in parts]).numpy()


def predict(model: FoundationModel, parts: Iterable[Inputs]) -> FramePredictions:
    """Return what a model predicts of frames that come in parts, one part at a time."""
    probabilities: list[Tensor] = []
    normalised_inputs: list[Tensor] = []
    with torch.inference_mode():
        for part in parts:
            probabilities.append(steps_to_go_probabilities(model, part))
            normalised_inputs.append(model.normalised_inputs(part))
    return FramePredictions(
        probabilities=torch.cat(probabilities).numpy(),
        normalised_inputs=torch.cat(normalised_inputs).numpy(),
    )


def predict_rollouts(
    model: FoundationModel, rollouts: Iterable[tuple[Episode, Bool[Array, "obs"]]]
) -> LabelledPredictions:
    """Return what a model predicts of episodes as they end, with their ground truth."""
    successes: list[Array] = []
    instructions: list[str] = []

    def parts() -> Iterator[Inputs]:
        for episode, success in rollouts:
            successes.append(success)
            instructions.append(episode.instruction)
            yield reward_inputs(episode)

    predictions = predict(model, parts())
    return LabelledPredictions(
        predictions=predictions,
        success=np.concatenate(successes),
        lengths=np.array([len(success) for success in successes]),
        instructions=tuple(instructions),
    )
