"""Scaling of a robot's state by the quantiles of the demonstrations."""

import torch
from jaxtyping import Float
from torch import Tensor

_QUANTILES = (0.01, 0.99)  # outliers of a sensor must not compress everything else
_MAX_FRAMES = 1_000_000  # torch.quantile takes at most 2^24 numbers


def state_range(
    state: Float[Tensor, "frames state"],
) -> tuple[Float[Tensor, "state"], Float[Tensor, "state"]]:
    """Return the 1 % and 99 % quantiles of each component; never equal ones."""
    if not state.shape[1]:
        return state.new_zeros(0), state.new_ones(0)
    low, high = torch.quantile(state[:_MAX_FRAMES], torch.tensor(_QUANTILES), dim=0)
    return low, torch.where(high > low, high, low + 1)


def unit_state(
    state: Float[Tensor, "samples state"],
    low: Float[Tensor, "state"],
    high: Float[Tensor, "state"],
) -> Float[Tensor, "samples state"]:
    """Return each component scaled from [low, high] to [-1, 1], clipped."""
    return ((state - low) / (high - low) * 2 - 1).clamp(-1, 1)
