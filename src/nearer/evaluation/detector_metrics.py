"""Any number that should fall on the way to the goal, as a success detector.

judged          how well it tells fulfilled from not, whatever its unit
precision_gap   by how much one is better than another

A detector ends an episode, so it never meets what comes after: numbers that take frame by frame are
of the frames up to the first fulfilled one of each episode.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from nearer.core.arrays import Array
from nearer.core.intervals import Rate
from nearer.evaluation.reward_metrics import (
    Evidence,
    detector_counts,
    labelled,
    rank_correlation,
    ranks,
)
from nearer.evaluation.threshold import choose_threshold, detector_curve

_RESAMPLES = 200
_FEW = 10  # episodes of a half, below which no threshold is chosen on it
_QUANTILES = np.unique(np.concatenate([[0.0], np.geomspace(5e-4, 1, 121)]))


def judged(
    distance: Float32[Array, "frames"], evidence: Evidence, min_precision: float
) -> dict[str, Any]:
    """Return how well a number tells fulfilled from not, whatever its unit, as JSON values.

    `halves`: the threshold is chosen on one half of the episodes and measured on the other, both
    ways round.

    Args:
        distance: falls on the way to the goal.
        evidence: labels.
        min_precision: of the choice, see `choose_threshold`.
    """
    met = evidence.met
    lowest = np.array([one.min() for one in np.split(distance[met], evidence.until_done.cuts)])
    return {
        **halves(distance, evidence, min_precision),
        "average_precision": average_precision(distance[met], evidence.fulfilled[met]),
        "rank_correlation": rank_correlation(distance, evidence)["mean"],
        "success_auc": area_under_curve(lowest, evidence.succeeded),
    }


def halves(
    distance: Float32[Array, "frames"], evidence: Evidence, min_precision: float
) -> dict[str, Any]:
    """Return how a threshold does that was chosen on other episodes, both halves together.

    `fired`, `right` and `fulfilled` are counts, all zero where a half is too small or has nothing
    fulfilled; `chosen` says of each half how its threshold did where it was chosen, and whether one
    was as precise as asked for: if not, the best harmonic mean of precision and recall was taken.
    """
    counts = {"fired": 0, "right": 0, "fulfilled": 0}
    even = np.arange(len(evidence.lengths)) % 2 == 0
    parts = [evidence.chosen(even), evidence.chosen(~even)]
    if any(len(one.lengths) < _FEW or not one.succeeded.any() for one in parts):
        return counts | {"chosen": []}
    chosen: list[dict[str, Any]] = []
    here = np.repeat(even, evidence.lengths)
    for there, (learned, rest) in ((~here, parts), (here, parts[::-1])):
        threshold = own_threshold(distance[~there], learned, min_precision)
        known = detector_curve(labelled(distance[~there], learned), [threshold])
        precision = known.precision[0]
        chosen.append(
            {
                "precision": precision,
                "recall": known.recall[0],
                "as_precise_as_asked": precision >= min_precision,
            }
        )
        curve = detector_curve(labelled(distance[there], rest), [threshold])
        for name, count in detector_counts(curve, 0).items():
            counts[name] += count
    return counts | {"chosen": chosen}


def own_threshold(
    distance: Float32[Array, "frames"], evidence: Evidence, min_precision: float
) -> float:
    """Return the threshold that `choose_threshold` takes among quantiles of the number itself."""
    thresholds = np.unique(np.quantile(distance, _QUANTILES).astype(np.float32))
    curve = detector_curve(labelled(distance, evidence), thresholds.tolist())
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
    found = np.cumsum((weight * positive)[order])[last]
    taken = np.cumsum(weight[order])[last]
    if found[-1] == 0:
        return None
    gained = np.diff(found, prepend=0.0)
    return float((gained * found / np.maximum(taken, 1e-12)).sum() / found[-1])


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
) -> dict[str, Any] | None:
    """Return by how much one number's average precision is above another's, with its 95 % interval.

    None where nothing is fulfilled, so that there is nothing to find.

    Args:
        first: its distances, a row a training seed.
        second: the other's.
        evidence: labels.
        rng: draws whole episodes, and training seeds, with replacement.
    """
    if not evidence.fulfilled.any():
        return None
    done, met = evidence.until_done, evidence.met
    cut: list[list[Array]] = [[d[met] for d in one] for one in (first, second)]

    def gap(weight: Array | None, seeds: Sequence[Sequence[int]]) -> float:
        means = [
            np.mean([average_precision(rows[i], done.fulfilled, weight) or 0.0 for i in chosen])
            for rows, chosen in zip(cut, seeds, strict=True)
        ]
        return float(means[0] - means[1])

    total, gaps = len(done.lengths), list[float]()
    for _ in range(_RESAMPLES):
        drawn = np.bincount(rng.integers(0, total, total), minlength=total)
        weight = np.repeat(drawn, done.lengths).astype(np.float64)
        gaps.append(gap(weight, [rng.integers(0, len(d), len(d)).tolist() for d in cut]))
    mean = gap(None, [range(len(rows)) for rows in cut])
    return {"mean": mean, "ci95": np.quantile(gaps, [0.025, 0.975]).tolist()}


def precision_of(counts: Mapping[str, Any]) -> Rate:
    """Return the precision that counts of `judged` or `summary` say."""
    return Rate(successes=int(counts["right"]), total=int(counts["fired"]))


def recall_of(counts: Mapping[str, Any]) -> Rate:
    """Return the recall that counts of `judged` or `summary` say."""
    return Rate(successes=int(counts["right"]), total=int(counts["fulfilled"]))
