"""Any number that should fall on the way to the goal, as a success detector.

    detector_metrics   how well it separates success from failure, whatever its unit
    precision_gap      by how much one is better than another

A detector ends an episode, so it never meets what comes after: numbers that take frame by frame are
of the frames up to the first successful one of each episode.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from nearer.core.arrays import Array
from nearer.evaluation.reward_metrics import (
    Evidence,
    detector_counts,
    labelled_episodes,
    rank_correlation,
    ranks,
)
from nearer.evaluation.threshold import DetectorCounts, choose_threshold, detector_curve

_RESAMPLES = 200
_FEW = 10  # episodes of a half, below which no threshold is chosen on it
_QUANTILES = np.unique(np.concatenate([[0.0], np.geomspace(5e-4, 1, 121)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfThreshold:
    """How a threshold does on the half of the episodes that it was chosen on.

    Attributes:
        is_precise_enough: whether its precision is the one asked for; if not, the threshold with
            the best F1 was taken.
    """

    precision: float
    recall: float
    is_precise_enough: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorMetrics(DetectorCounts):
    """How well a number separates success from failure, whatever its unit.

    The counts are of thresholds that were chosen on one half of the episodes and measured on the
    other, both ways round; all zero where a half is too small or has no success.

    Attributes:
        halves: of each half, how its threshold does where it was chosen; empty without counts.
        average_precision: frame by frame; None without a successful frame.
        rank_correlation: mean over episodes, see `RankCorrelation`.
        success_auc: how often a success came nearer than a failure; None without either.
    """

    halves: tuple[HalfThreshold, ...]
    average_precision: float | None
    rank_correlation: float | None
    success_auc: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionGap:
    """By how much one number's average precision is above another's, with its 95 % interval."""

    mean: float
    ci95: tuple[float, float]


def detector_metrics(
    distance: Float32[Array, "frames"], evidence: Evidence, min_precision: float
) -> DetectorMetrics:
    """Return how well a number separates success from failure, whatever its unit.

    Args:
        distance: falls on the way to the goal.
        evidence: labels.
        min_precision: of the choice, see `choose_threshold`.
    """
    parts = np.split(distance[evidence.until_success], evidence.cut_at_success.cuts)
    lowest = np.array([part.min() for part in parts])
    counts, halves = _cross_validated(distance, evidence, min_precision)
    return DetectorMetrics(
        num_detections=counts.num_detections,
        num_correct_detections=counts.num_correct_detections,
        num_success=counts.num_success,
        halves=halves,
        average_precision=average_precision(
            distance[evidence.until_success], evidence.success[evidence.until_success]
        ),
        rank_correlation=rank_correlation(distance, evidence).mean,
        success_auc=area_under_curve(lowest, evidence.succeeded),
    )


def _cross_validated(
    distance: Float32[Array, "frames"], evidence: Evidence, min_precision: float
) -> tuple[DetectorCounts, tuple[HalfThreshold, ...]]:
    """Return how thresholds do on episodes that did not choose them, and on those that did."""
    even = np.arange(len(evidence.lengths)) % 2 == 0
    parts = [evidence.select(even), evidence.select(~even)]
    nothing = DetectorCounts(num_detections=0, num_correct_detections=0, num_success=0)
    if any(len(part.lengths) < _FEW or not part.succeeded.any() for part in parts):
        return nothing, ()
    halves: list[HalfThreshold] = []
    counts: list[DetectorCounts] = []
    in_even = np.repeat(even, evidence.lengths)
    for measured_on, (chosen_on, rest) in ((~in_even, parts), (in_even, parts[::-1])):
        threshold = own_threshold(distance[~measured_on], chosen_on, min_precision)
        own = detector_curve(labelled_episodes(distance[~measured_on], chosen_on), [threshold])
        precision = own.precision[0]
        halves.append(
            HalfThreshold(
                precision=precision,
                recall=own.recall[0],
                is_precise_enough=precision >= min_precision,
            )
        )
        curve = detector_curve(labelled_episodes(distance[measured_on], rest), [threshold])
        counts.append(detector_counts(curve, 0))
    both = DetectorCounts(
        num_detections=sum(half.num_detections for half in counts),
        num_correct_detections=sum(half.num_correct_detections for half in counts),
        num_success=sum(half.num_success for half in counts),
    )
    return both, tuple(halves)


def own_threshold(
    distance: Float32[Array, "frames"], evidence: Evidence, min_precision: float
) -> float:
    """Return the threshold that `choose_threshold` takes among quantiles of the number itself."""
    thresholds = np.unique(np.quantile(distance, _QUANTILES).astype(np.float32))
    curve = detector_curve(labelled_episodes(distance, evidence), thresholds.tolist())
    return choose_threshold({"own": curve}, min_precision)


def average_precision(
    distance: Float32[Array, "frames"],
    positive: Bool[Array, "frames"],
    weight: Float[Array, "frames"] | None = None,
) -> float | None:
    """Return the mean precision over all recalls, frame by frame; None without a positive one.

        AP = sum_n (R_n - R_{n-1}) P_n

    Equal distances are one threshold. Source: Salton and McGill 1983, as scikit-learn defines it.

    Args:
        distance: smaller is surer.
        positive: the frames to be found.
        weight: of each frame; None: all alike.
    """
    weight = np.ones(len(distance)) if weight is None else weight
    order = np.argsort(distance, kind="stable")
    last = np.append(np.flatnonzero(np.diff(distance[order])), len(order) - 1)
    true_positives = np.cumsum((weight * positive)[order])[last]
    detections = np.cumsum(weight[order])[last]
    if true_positives[-1] == 0:
        return None
    gained = np.diff(true_positives, prepend=0.0)
    precision_gained = gained * true_positives / np.maximum(detections, 1e-12)
    return float(precision_gained.sum() / true_positives[-1])


def area_under_curve(
    lowest: Float32[Array, "episodes"], succeeded: Bool[Array, "episodes"]
) -> float | None:
    """Return how often a success came nearer than a failure, ties half; None without either.

    Mann and Whitney 1947, Ann. Math. Stat. 18, 50-60, divided by the number of pairs.
    """
    wins, losses = int(succeeded.sum()), int((~succeeded).sum())
    if not wins or not losses:
        return None
    rank_sum = ranks(-lowest)[succeeded].sum()
    return float((rank_sum - wins * (wins + 1) / 2) / (wins * losses))


def precision_gap(
    first: Sequence[Float32[Array, "frames"]],
    second: Sequence[Float32[Array, "frames"]],
    evidence: Evidence,
    rng: np.random.Generator,
) -> PrecisionGap | None:
    """Return by how much one number's average precision is above another's, with its 95 % interval.

    None without a successful frame, so that there is nothing to detect.

    Args:
        first: its distances, a row a training seed.
        second: the other's.
        evidence: labels.
        rng: draws whole episodes, and training seeds, with replacement.
    """
    if not evidence.success.any():
        return None
    cut, frames = evidence.cut_at_success, evidence.until_success
    distances: list[list[Array]] = [[d[frames] for d in seeds] for seeds in (first, second)]

    def gap(weight: Array | None, rows: Sequence[Sequence[int]]) -> float:
        means = [
            np.mean([average_precision(seeds[i], cut.success, weight) or 0.0 for i in drawn])
            for seeds, drawn in zip(distances, rows, strict=True)
        ]
        return float(means[0] - means[1])

    total, gaps = len(cut.lengths), list[float]()
    for _ in range(_RESAMPLES):
        times_drawn = np.bincount(rng.integers(0, total, total), minlength=total)
        weight = np.repeat(times_drawn, cut.lengths).astype(np.float64)
        gaps.append(gap(weight, [rng.integers(0, len(d), len(d)).tolist() for d in distances]))
    low, high = np.quantile(gaps, [0.025, 0.975]).tolist()
    mean = gap(None, [range(len(seeds)) for seeds in distances])
    return PrecisionGap(mean=mean, ci95=(low, high))
