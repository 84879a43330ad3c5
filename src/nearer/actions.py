"""Continuous actions as discrete tokens, and back (paper, section 4 of the facts: LanguageTable).

Each axis becomes a sign and a magnitude 0..10, in units of that axis: here one token of 21 classes
an axis, since -0 and +0 are the same action.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

LEVELS = 10
"""Largest magnitude, in units."""
NUM_TOKENS = 2 * LEVELS + 1


class ActionTokens(nn.Module):
    """Rounds actions to whole units an axis, and decodes tokens to the same units.

    The units are buffers, so they are saved with the weights.

    >>> tokens = ActionTokens(torch.tensor([0.005, 0.01]))
    >>> tokens.encode(torch.tensor([[-0.012, 0.3]])).tolist()
    [[8, 20]]
    """

    def __init__(self, units: Float[Tensor, "axes"]) -> None:
        super().__init__()
        self.units = nn.Buffer(units.clone())

    def encode(self, actions: Float[Tensor, "*batch axes"]) -> Int64[Tensor, "*batch axes"]:
        """Return tokens 0..20; an action beyond ten units becomes the largest."""
        return (actions / self.units).round().clamp(-LEVELS, LEVELS).long() + LEVELS

    def decode(self, tokens: Int64[Tensor, "*batch axes"]) -> Float[Tensor, "*batch axes"]:
        """Return the actions that tokens stand for, in the env's units."""
        return (tokens - LEVELS) * self.units


def action_words() -> list[str]:
    """Return what each token says: "-10" to "+10"."""
    return [f"{level:+d}" for level in range(-LEVELS, LEVELS + 1)]


def action_units(actions: Float[Tensor, "samples axes"]) -> Float[Tensor, "axes"]:
    """Return units with which ten of them reach 99.5 % of the demonstrated actions of an axis."""
    reach = torch.quantile(actions.abs()[:1_000_000], 0.995, dim=0)
    return torch.where(reach > 0, reach, torch.ones_like(reach)) / LEVELS


def draw_tokens(
    log_prob: Float[Tensor, "samples tokens"], randomness: Sequence[np.random.Generator]
) -> Int64[Tensor, "samples"]:
    """Draw a token a row, by inverting the cumulative distribution at one uniform number."""
    uniform = torch.tensor([one.random() for one in randomness])[:, None]
    cumulative = log_prob.double().exp().cumsum(dim=1)
    drawn = (cumulative < uniform * cumulative[:, -1:]).sum(dim=1)
    return drawn.clamp(max=log_prob.shape[1] - 1)
