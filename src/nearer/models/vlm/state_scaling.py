"""Numbers of a robot's state, between the quantiles that the demonstrations have."""

import torch
from jaxtyping import Float
from torch import Tensor


def state_range(
    state: Float[Tensor, "frames state"],
) -> tuple[Float[Tensor, "state"], Float[Tensor, "state"]]:
    """Return the least and greatest of all but 2 % of each number; never the same."""
    if not state.shape[1]:
        return state.new_zeros(0), state.new_ones(0)
    ends = torch.tensor([0.01, 0.99])
    low, high = torch.quantile(state[:1_000_000], ends, dim=0)
    return low, torch.where(high > low, high, low + 1)


def unit_state(
    state: Float[Tensor, "samples state"],
    low: Float[Tensor, "state"],
    high: Float[Tensor, "state"],
) -> Float[Tensor, "samples state"]:
    """Return each number from -1 at `low` to 1 at `high`; beyond is clipped."""
    return ((state - low) / (high - low) * 2 - 1).clamp(-1, 1)
