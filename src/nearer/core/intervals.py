"""How sure a rate is: every success rate in nearer comes with n and one of these."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate of `total` trials with its 95 % Wilson interval.

    >>> str(Rate(successes=9, total=10))
    '0.900 [0.596, 0.982] (n = 10)'
    """

    successes: int
    total: int

    @property
    def value(self) -> float:
        """Return the fraction of successes; nan without trials."""
        return self.successes / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % Wilson score interval; [0, 1] without trials.

        Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.
        """
        return _wilson(self.value, self.total)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}] (n = {self.total})"


def _wilson(value: float, total: float) -> tuple[float, float]:
    if not total:
        return 0.0, 1.0
    weight = _Z95**2 / total
    centre = (value + weight / 2) / (1 + weight)
    variance = value * (1 - value) / total + _Z95**2 / (4 * total**2)
    half = _Z95 * math.sqrt(variance) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def clustered_interval(successes: Sequence[int], totals: Sequence[int]) -> tuple[float, float]:
    """Return the 95 % interval of a rate whose trials come in clusters, as frames do in episodes.

    Trials of one cluster are alike, so there are fewer independent ones than trials: as many as
    have the variance that the rate shows between clusters (ratio estimator, Cochran 1977, Sampling
    Techniques, chapter 6), at most all; Wilson's interval is that of so many. Where all trials
    agree, a cluster counts as one trial.

    Args:
        successes: of each cluster.
        totals: trials of each cluster.
    """
    clusters = [(won, all_) for won, all_ in zip(successes, totals, strict=True) if all_]
    trials = sum(totals)
    if len(clusters) < 2:
        return _wilson(math.nan if not trials else sum(successes) / trials, len(clusters))
    rate = sum(successes) / trials
    residuals = sum((won - rate * all_) ** 2 for won, all_ in clusters)
    variance = len(clusters) / (len(clusters) - 1) * residuals / trials**2
    independent = min(float(trials), rate * (1 - rate) / variance) if variance else len(clusters)
    return _wilson(rate, independent)


_STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""97.5 % quantiles for 1 to 9 degrees of freedom."""
MOST_SEEDS = len(_STUDENT_T) + 1


def seed_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over seeds, Student's t.

    Unlike an interval over episodes it knows that training differs from seed to seed.

    Args:
        values: one a seed, 2 to 10 of them.
    """
    assert 2 <= len(values) <= MOST_SEEDS, f"2 to 10 seeds, got {len(values)}"
    half = _STUDENT_T[len(values) - 2] * stdev(values) / len(values) ** 0.5
    mean = fmean(values)
    return mean - half, mean + half


def sign_test(wins: int, losses: int) -> float:
    """Return the two-sided p-value of paired trials that differ, under "neither is better".

    The exact binomial form of McNemar's test (McNemar 1947, Psychometrika 12, 153-157).
    """
    trials = wins + losses
    if not trials:
        return 1.0
    tail = sum(math.comb(trials, k) for k in range(min(wins, losses) + 1)) / 2**trials
    return min(1.0, 2 * tail)
