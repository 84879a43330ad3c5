"""What a reward model makes of labelled frames, part by part: p(k | o, g), and facts."""

import json
from collections.abc import Iterable, Iterator
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
"""At most; fewer where a sight makes much of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Labelled episodes and what a reward model makes of them, frames one after the other.

    What its sight made of them is not kept: of many frames it would not fit the memory.

    Attributes:
        probabilities: p(k | o, g).
        facts: what comparisons read.
        fulfilled: whether the instruction was fulfilled.
        lengths: observations an episode.
        instructions: one an episode.
    """

    probabilities: Float32[Array, "frames bins"]
    facts: Float32[Array, "frames facts"]
    fulfilled: Bool[Array, "frames"]
    lengths: Int64[Array, "episodes"]
    instructions: tuple[str, ...]


def reward_inputs(episode: Episode) -> Inputs:
    """Return the questions of an episode's frames, as the reward model is asked them."""
    return reward_inputs_of(episode.observations, [episode.instruction] * (episode.num_steps + 1))


def facts_of(model: FoundationModel, parts: Iterable[Inputs]) -> Float32[Array, "frames facts"]:
    """Return the facts of frames that come in parts, one part at a time."""
    with torch.inference_mode():
        return torch.cat([model.normalised_inputs(part) for part in parts]).numpy()


def answered(model: FoundationModel, parts: Iterable[Inputs]) -> dict[str, Array]:
    """Return p(k | o, g) and the facts of frames that come in parts, one part at a time."""
    probabilities: list[Tensor] = []
    facts: list[Tensor] = []
    with torch.inference_mode():
        for part in parts:
            probabilities.append(steps_to_go_probabilities(model, part))
            facts.append(model.normalised_inputs(part))
    return {"probabilities": torch.cat(probabilities).numpy(), "facts": torch.cat(facts).numpy()}


def answers_of(
    model: FoundationModel, rollouts: Iterable[tuple[Episode, Bool[Array, "obs"]]]
) -> Answers:
    """Return what a model makes of episodes as they end, and what was true along them."""
    truths: list[Array] = []
    instructions: list[str] = []

    def asked() -> Iterator[Inputs]:
        for episode, fulfilled in rollouts:
            truths.append(fulfilled)
            instructions.append(episode.instruction)
            yield reward_inputs(episode)

    columns = answered(model, asked())
    return Answers(
        probabilities=columns["probabilities"],
        facts=columns["facts"],
        fulfilled=np.concatenate(truths),
        lengths=np.array([len(one) for one in truths]),
        instructions=tuple(instructions),
    )


def to_columns(answers: Answers) -> dict[str, Array]:
    """Return answers as arrays, to be kept."""
    words = np.frombuffer(json.dumps(answers.instructions).encode(), dtype=np.uint8)
    return {
        "probabilities": answers.probabilities,
        "facts": answers.facts,
        "fulfilled": answers.fulfilled,
        "lengths": answers.lengths,
        "instructions": words,
    }


def from_columns(columns: dict[str, Array]) -> Answers:
    """Return answers that were kept."""
    return Answers(
        probabilities=columns["probabilities"],
        facts=columns["facts"],
        fulfilled=columns["fulfilled"],
        lengths=columns["lengths"],
        instructions=tuple(json.loads(columns["instructions"].tobytes())),
    )
