"""Continuous actions as discrete tokens, and back (paper, LanguageTable; docs/method.md).

Each axis becomes a sign and a magnitude 0..10, in units of that axis: here one token of 21 classes
an axis, since -0 and +0 are the same action. With 127 levels there are 255 classes, for joints as
the paper's Aloha has them: its 256 bins have none for an action of zero.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

LEVELS = 10
"""Largest magnitude, in units, unless a model says otherwise."""
NUM_TOKENS = 2 * LEVELS + 1


class ActionTokens(nn.Module):
    """Rounds actions to whole units an axis, and decodes tokens to the same units.

    The units are buffers, so they are saved with the weights.

    Args:
        units: of each axis, in the env's units.
        levels: largest magnitude, in units.

    >>> tokens = ActionTokens(torch.tensor([0.005, 0.01]))
    >>> tokens.encode(torch.tensor([[-0.012, 0.3]])).tolist()
    [[8, 20]]
    """

    def __init__(self, units: Float[Tensor, "axes"], levels: int = LEVELS) -> None:
        super().__init__()
        self.levels = levels
        self.units = nn.Buffer(units.clone())

    @property
    def count(self) -> int:
        """Count the classes of an axis: both signs of every magnitude, and zero."""
        return 2 * self.levels + 1

    def encode(self, actions: Float[Tensor, "*batch axes"]) -> Int64[Tensor, "*batch axes"]:
        """Return tokens 0..2 levels; an action beyond the largest becomes the largest."""
        return (actions / self.units).round().clamp(-self.levels, self.levels).long() + self.levels

    def decode(self, tokens: Int64[Tensor, "*batch axes"]) -> Float[Tensor, "*batch axes"]:
        """Return the actions that tokens stand for, in the env's units."""
        return (tokens - self.levels) * self.units


def action_words(levels: int = LEVELS) -> list[str]:
    """Return what each token says: "-10" to "+10"."""
    return [f"{level:+d}" for level in range(-levels, levels + 1)]


def action_units(
    actions: Float[Tensor, "samples axes"], levels: int = LEVELS
) -> Float[Tensor, "axes"]:
    """Return units of which `levels` reach 99.5 % of the demonstrated actions of an axis."""
    reach = torch.quantile(actions.abs()[:1_000_000], 0.995, dim=0)
    return torch.where(reach > 0, reach, torch.ones_like(reach)) / levels


def draw_tokens(
    log_prob: Float[Tensor, "samples tokens"], rngs: Sequence[np.random.Generator]
) -> Int64[Tensor, "samples"]:
    """Draw a token a row, by inverting the cumulative distribution at one uniform number."""
    uniform = torch.tensor([rng.random() for rng in rngs])[:, None]
    cumulative = log_prob.double().exp().cumsum(dim=1)
    drawn = (cumulative < uniform * cumulative[:, -1:]).sum(dim=1)
    return drawn.clamp(max=log_prob.shape[1] - 1)
