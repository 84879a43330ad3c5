"""The one place where episodes become tensors: (o_t, a_t, g, R_t) samples and minibatches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nearer.algorithm.model import Inputs, inputs_of, join_inputs
from nearer.core.episode import ScoredEpisode


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples of Stage 2, in any order.

    Attributes:
        inputs: what the policy saw.
        actions: what it did, in the env's units.
        log_prob: of these actions, when it acted.
        returns: R_t, in control steps.
    """

    inputs: Inputs
    actions: Float[Tensor, "samples action"]
    log_prob: Float[Tensor, "samples"]
    returns: Float[Tensor, "samples"]

    def __len__(self) -> int:
        return len(self.returns)

    def rows(self, index: Tensor) -> "Batch":
        """Return these samples."""
        return Batch(
            inputs=self.inputs.rows(index),
            actions=self.actions[index],
            log_prob=self.log_prob[index],
            returns=self.returns[index],
        )

    def parts(self, count: int) -> "list[Batch]":
        """Return the samples in so many parts, of one size where that is possible."""
        if count == 1:
            return [self]  # the usual case copies nothing
        return [self.rows(index) for index in torch.arange(len(self)).tensor_split(count)]


def make_batch(scored: Sequence[ScoredEpisode]) -> Batch:
    """Return every step of every episode as one sample; the last observation has no action."""
    acted = [scored_episode for scored_episode in scored if scored_episode.episode.num_steps]
    episodes = [scored_episode.episode for scored_episode in acted]
    return Batch(
        inputs=join_inputs(
            [
                inputs_of(e.observations.rows(slice(-1)), [e.instruction] * e.num_steps)
                for e in episodes
            ]
        ),
        actions=_stack([e.actions for e in episodes]),
        log_prob=_stack([e.log_prob for e in episodes]),
        returns=_stack([scored_episode.returns for scored_episode in acted]),
    )


def join(batches: Sequence[Batch]) -> Batch:
    """Return the samples of several batches as one."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        inputs=join_inputs([batch.inputs for batch in batches]),
        actions=torch.cat([batch.actions for batch in batches]),
        log_prob=torch.cat([batch.log_prob for batch in batches]),
        returns=torch.cat([batch.returns for batch in batches]),
    )


def minibatches(batch: Batch, count: int, size: int, rngs: np.random.Generator) -> Iterator[Batch]:
    """Yield `count` minibatches of `size` samples, drawn without replacement (algorithm 1)."""
    order = torch.from_numpy(rngs.permutation(len(batch))[: count * size])
    for first in range(0, count * size, size):
        yield batch.rows(order[first : first + size])


def _stack(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts))
