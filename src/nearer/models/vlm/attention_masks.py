"""Which token may look at which, and where each stands: several questions are read at once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from transformers import DynamicCache

_ROWS_AT_ONCE = 32  # questions, where nothing is learned; bounds the memory of a large buffer


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what is known of its answer, after the tokens that all questions share.

    Attributes:
        words: its tokens, embedded.
        real: which of them are no padding.
    """

    words: Float[Tensor, "samples more hidden"]
    real: Bool[Tensor, "samples more"]


@dataclass(slots=True)
class Read:
    """What a network has read so far, when an action's axes are answered one by one.

    Attributes:
        cache: keys and values of every layer.
        visible: which of the tokens read count for the next one.
        place: position of the next token.
    """

    cache: DynamicCache
    visible: Bool[Tensor, "samples read"]
    place: Int64[Tensor, "samples"]


def who_sees_whom(
    prefix: int, asked: Sequence[Bool[Tensor, "samples _"]], both_ways: bool
) -> Bool[Tensor, "samples read read"]:
    """Return which tokens each token may look at: the shared ones, and its own question's before.

    Args:
        prefix: tokens that all questions share.
        asked: which tokens of each question are real.
        both_ways: shared tokens look at each other forwards as well.
    """
    real = torch.cat([asked[0].new_ones((len(asked[0]), prefix)), *asked], dim=1)
    allowed = real[:, None] & real.new_ones(real.shape[1], real.shape[1]).tril()
    if both_ways:
        allowed[:, :prefix, :prefix] = True
    start = prefix
    for one in asked:
        allowed[:, start + one.shape[1] :, start : start + one.shape[1]] = False
        start += one.shape[1]
    return allowed


def counted(real: Bool[Tensor, "samples more"]) -> Int64[Tensor, "samples more"]:
    """Return how many real tokens stand before each; padding counts from zero."""
    return (real.long().cumsum(dim=1) - 1).clamp(min=0)


def split_columns(
    features: Tensor, shapes: Sequence[tuple[int, ...]]
) -> list[tuple[Tensor, tuple[int, ...]]]:
    """Return the columns that each shape takes, with the shape."""
    widths = [math.prod(shape) for shape in shapes]
    parts = cast(Sequence[Tensor], features.split(widths, dim=1))
    return list(zip(parts, shapes, strict=True))


def in_parts(part: Callable[[slice], Tensor], rows: int) -> Tensor:
    """Return the answers to all rows; not all at once where nothing is learned."""
    if torch.is_grad_enabled():
        return part(slice(0, rows))
    starts = range(0, rows, _ROWS_AT_ONCE)
    return torch.cat([part(slice(first, min(first + _ROWS_AT_ONCE, rows))) for first in starts])
