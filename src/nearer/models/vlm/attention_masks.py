"""Attention masks with which several prompts share the computation of one prefix."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from transformers import DynamicCache

_ROWS_AT_ONCE = 32  # samples without gradients; bounds the memory of a large replay store


@dataclass(frozen=True, slots=True)
class PromptSuffix:
    """A prompt's tokens after the shared prefix, with the output tokens given so far.

    Attributes:
        embeddings: of the tokens.
        real: which of them are not padding.
    """

    embeddings: Float[Tensor, "samples more hidden"]
    real: Bool[Tensor, "samples more"]


@dataclass(slots=True)
class DecodingState:
    """State of a network while an action's tokens are decoded one axis after the other.

    Attributes:
        cache: keys and values of every layer.
        visible: which of the cached tokens the next one may attend to.
        position: of the next token.
    """

    cache: DynamicCache
    visible: Bool[Tensor, "samples read"]
    position: Int64[Tensor, "samples"]


def shared_prefix_mask(
    prefix: int, suffixes: Sequence[Bool[Tensor, "samples _"]], both_ways: bool
) -> Bool[Tensor, "samples read read"]:
    """Return which tokens each token may attend to: the prefix, and its own suffix causally.

    With two suffixes S and T after the prefix P (rows attend to columns):

            P       S       T
        P   causal  -       -
        S   all     causal  -
        T   all     -       causal

    Args:
        prefix: number of tokens that all prompts share.
        suffixes: which tokens of each suffix are real.
        both_ways: prefix tokens attend to each other bidirectionally.
    """
    real = torch.cat([suffixes[0].new_ones((len(suffixes[0]), prefix)), *suffixes], dim=1)
    allowed = real[:, None] & real.new_ones(real.shape[1], real.shape[1]).tril()
    if both_ways:
        allowed[:, :prefix, :prefix] = True
    start = prefix
    for suffix in suffixes:  # later suffixes must not attend to this one
        stop = start + suffix.shape[1]
        allowed[:, stop:, start:stop] = False
        start = stop
    return allowed


def suffix_positions(real: Bool[Tensor, "samples more"]) -> Int64[Tensor, "samples more"]:
    """Return each token's position among the real ones, from 0; padding in front is 0, too."""
    return (real.long().cumsum(dim=1) - 1).clamp(min=0)


def split_columns(
    features: Tensor, shapes: Sequence[tuple[int, ...]]
) -> list[tuple[Tensor, tuple[int, ...]]]:
    """Return consecutive columns, as many as each shape has elements, with the shape."""
    widths = [math.prod(shape) for shape in shapes]
    parts = cast(Sequence[Tensor], features.split(widths, dim=1))
    return list(zip(parts, shapes, strict=True))


def in_parts(function: Callable[[slice], Tensor], rows: int) -> Tensor:
    """Return `function` of all rows; of parts one after the other where no gradient is needed."""
    if torch.is_grad_enabled():
        return function(slice(0, rows))
    starts = range(0, rows, _ROWS_AT_ONCE)
    return torch.cat([function(slice(first, min(first + _ROWS_AT_ONCE, rows))) for first in starts])
