"""From a distribution over steps-to-go to rewards, returns and success (paper, eqs. 1-4)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nearer.core.episode import StepsToGoPrediction
from nearer.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsToGoBins:
    """Classes 0..count-1 of `width_steps` control steps each; the last one takes all longer times.

    A bin decodes to its lower edge, as in the authors' notebook, so that the first bin can say
    "done". The class is the bin INDEX: the notebook feeds the raw step count instead, which
    silently trains nothing on targets beyond the number of bins.

    >>> StepsToGoBins(count=50, width_steps=2).index(torch.tensor([0, 3, 500])).tolist()
    [0, 1, 49]
    """

    count: int
    width_steps: int = 1

    def __post_init__(self) -> None:
        if self.count < 2 or self.width_steps < 1:
            raise ConfigError(
                "steps-to-go bins must be at least 2, each at least 1 step wide, "
                f"got {self.count} bins of {self.width_steps}; set --mlp.num-bins and "
                "--mlp.steps-per-bin"
            )

    @property
    def longest_steps(self) -> int:
        """Return the largest number of steps that decodes to itself."""
        return (self.count - 1) * self.width_steps

    def index(self, steps: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
        """Return the bin of each number of control steps (>= 0)."""
        return (steps // self.width_steps).clamp(max=self.count - 1)

    def edges(self) -> Float[Tensor, "bins"]:
        """Return the lower edge of every bin, in control steps."""
        return torch.arange(self.count, dtype=torch.float32) * self.width_steps


def expected_steps(
    probabilities: Float[Tensor, "*batch bins"], bins: StepsToGoBins
) -> Float[Tensor, "*batch"]:
    """Return the expected number of control steps to go.

        d(o, g) = E_{p(k | o, g)}[k]                                       (eq. 1)

    The expectation, not the arg-max. Source: Ghasemipour et al. 2025, arXiv:2509.15155.
    """
    return probabilities @ bins.edges()


def spread_steps(
    probabilities: Float[Tensor, "*batch bins"], bins: StepsToGoBins
) -> Float[Tensor, "*batch"]:
    """Return the standard deviation of the number of control steps to go."""
    edges = bins.edges()
    variance = probabilities @ edges.square() - (probabilities @ edges).square()
    return variance.clamp(min=0).sqrt()


def quantile_steps(
    probabilities: Float[Tensor, "*batch bins"],
    bins: StepsToGoBins,
    levels: tuple[float, ...] = (0.1, 0.5, 0.9),
) -> Float[Tensor, "*batch levels"]:
    """Return, per level, the smallest number of steps whose cumulative probability reaches it."""
    levels_of_rows = (
        torch.tensor(levels).expand(*probabilities.shape[:-1], len(levels)).contiguous()
    )
    index = torch.searchsorted(probabilities.cumsum(dim=-1), levels_of_rows)
    return bins.edges()[index.clamp(max=bins.count - 1)]


def summary(
    probabilities: Float[Tensor, "*batch bins"], bins: StepsToGoBins
) -> StepsToGoPrediction:
    """Return mean, standard deviation and quantiles of p(k | o, g)."""
    return StepsToGoPrediction(
        mean=expected_steps(probabilities, bins).numpy(),
        std=spread_steps(probabilities, bins).numpy(),
        quantiles=quantile_steps(probabilities, bins).numpy(),
    )


def progress_rewards(steps_to_go: Float[Tensor, "*batch obs"]) -> Float[Tensor, "*batch obs-1"]:
    """Count how many steps nearer to the goal each action brought the robot.

        r_t = d(o_t, g) - d(o_{t+1}, g)                                    (eq. 2)

    Progress is positive, slipping back negative, standing still zero.
    Source: Ghasemipour et al. 2025, arXiv:2509.15155.

    Args:
        steps_to_go: d(o_t, g) >= 0 in control steps, from the frozen Stage-1 model.
    """
    return steps_to_go[..., :-1] - steps_to_go[..., 1:]


def discounted_returns(
    rewards: Float[Tensor, "*batch steps"], discount: float
) -> Float[Tensor, "*batch steps"]:
    """Sum the rewards that follow each step, each step later worth `discount` times as much.

        R_t = sum_{i >= t} discount^(i - t) r_i                            (eq. 4)

    Monte Carlo to the end of the episode, no bootstrapping. Ragged episodes are padded with zero
    rewards at their end, which leaves every return as it is.
    Source: Ghasemipour et al. 2025, arXiv:2509.15155; discount 0.9 there.
    """
    returns = torch.empty_like(rewards)
    following = torch.zeros_like(rewards[..., 0])
    for step in range(rewards.shape[-1] - 1, -1, -1):
        following = rewards[..., step] + discount * following
        returns[..., step] = following
    return returns


def is_solved(
    steps_to_go: Float[Tensor, "*batch"], threshold_steps: float
) -> Bool[Tensor, "*batch"]:
    """Return whether the model takes the instruction for done.

        success(o, g) = 1[ d(o, g) <= s ]                                  (eq. 3)

    Source: Ghasemipour et al. 2025, arXiv:2509.15155; s is not stated there and is calibrated here.
    """
    return steps_to_go <= threshold_steps
