"""How far steps-to-go can be trusted, measured on labelled episodes.

evidence   what a model predicts along episodes whose fulfilment is known
measured   error by distance, reliability, rank correlation, whether the spread knows the error
summary    the few numbers of a slice of the episodes

Steps are decisions: control steps, or chunks of them where the model decides so. The true steps
left of an observation are counted to the first fulfilled one after it. Nothing is known of them in
an episode that was never fulfilled, and after fulfilment.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from nearer.core.arrays import Array
from nearer.evaluation.threshold import DetectorCurve, LabelledEpisode, detector_curve, reliability

UNKNOWN = -1
"""True steps left where nobody knows them."""
DISTANCES = (0, 1, 2, 5, 10, 15, 20, 30, 40, 60, 100, 10**9)
"""Borders of true distances, in steps."""
_FEWEST_FRAMES = 5  # of an episode whose order says something
_GROUPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A model's predictions along labelled episodes, frames one episode after the other.

    Attributes:
        name: of the source, for people.
        labels: how the labels were made, a sentence.
        instructions: one an episode.
        lengths: observations an episode.
        probabilities: p(k | o, g) over the model's bins.
        edges: lower edges of the bins, in steps.
        fulfilled: whether the instruction was fulfilled.
    """

    name: str
    labels: str
    instructions: tuple[str, ...]
    lengths: Int64[Array, "episodes"]
    probabilities: Float32[Array, "frames bins"]
    edges: Float32[Array, "bins"]
    fulfilled: Bool[Array, "frames"]

    @property
    def steps_to_go(self) -> Float32[Array, "frames"]:
        """Return d, the expectation of p(k | o, g)."""
        return self.probabilities @ self.edges

    @property
    def spread_steps(self) -> Float32[Array, "frames"]:
        """Return the standard deviation of p(k | o, g)."""
        variance = self.probabilities @ self.edges**2 - self.steps_to_go**2
        return np.sqrt(np.maximum(variance, 0))

    @property
    def cuts(self) -> Int64[Array, "cuts"]:
        """Return where to split frames into episodes."""
        return np.cumsum(self.lengths)[:-1]

    @property
    def succeeded(self) -> Bool[Array, "episodes"]:
        """Tell which episodes were fulfilled at any observation."""
        return np.array([one.any() for one in np.split(self.fulfilled, self.cuts)], dtype=bool)

    @property
    def met(self) -> Bool[Array, "frames"]:
        """Tell which frames a perfect detector meets: up to the first fulfilled of each episode."""
        parts = np.split(self.fulfilled, self.cuts)
        before = [np.cumsum(one) - one for one in parts]
        return np.concatenate(before) == 0

    @property
    def until_done(self) -> "Evidence":
        """Return the episodes up to their first fulfilled frame."""
        met = self.met
        lengths = [int(one.sum()) for one in np.split(met, self.cuts)]
        return replace(
            self,
            lengths=np.array(lengths),
            probabilities=self.probabilities[met],
            fulfilled=self.fulfilled[met],
        )

    def chosen(self, episodes: Bool[Array, "episodes"]) -> "Evidence":
        """Return some of the episodes."""
        frames = np.repeat(episodes, self.lengths)
        return replace(
            self,
            instructions=tuple(np.array(self.instructions, dtype=object)[episodes].tolist()),
            lengths=self.lengths[episodes],
            probabilities=self.probabilities[frames],
            fulfilled=self.fulfilled[frames],
        )


def labelled(distance: Float32[Array, "frames"], evidence: Evidence) -> list[LabelledEpisode]:
    """Return the episodes with a number of any model's in place of d."""
    parts = np.split(distance, evidence.cuts), np.split(evidence.fulfilled, evidence.cuts)
    return [
        LabelledEpisode(steps_to_go=d, fulfilled=fulfilled)
        for d, fulfilled in zip(*parts, strict=True)
    ]


def true_steps(
    fulfilled: Bool[Array, "frames"], lengths: Int64[Array, "episodes"]
) -> Int64[Array, "frames"]:
    """Return the steps from each observation to its episode's first fulfilled one.

    UNKNOWN after that, and in episodes without one.
    """
    left = np.full(len(fulfilled), UNKNOWN, dtype=np.int64)
    ends = np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends, strict=True):
        first = int(fulfilled[start:end].argmax())
        if fulfilled[start + first]:
            left[start : start + first + 1] = np.arange(first, -1, -1)
    return left


def measured(evidence: Evidence, width_steps: int) -> dict[str, Any]:
    """Return how right steps-to-go is on labelled episodes, as JSON values.

    Args:
        evidence: the episodes.
        width_steps: steps a bin.
    """
    left = true_steps(evidence.fulfilled, evidence.lengths)
    known = left != UNKNOWN
    found: dict[str, Any] = {
        "labels": evidence.labels,
        "frames": len(left),
        "failures": _failures(evidence),
        "rank_correlation": rank_correlation(evidence.steps_to_go, evidence),
    }
    if not known.any():
        return found | {"by_distance": [], "by_predicted": [], "spread": None, "steps_to_go": None}
    probabilities, edges = evidence.probabilities[known], evidence.edges
    return found | {
        "by_distance": _by_distance(evidence, left, left),
        "by_predicted": _by_distance(evidence, left, evidence.steps_to_go),
        "spread": _spread(evidence, left),
        "steps_to_go": reliability(probabilities, edges, left[known], width_steps),
    }


def summary(evidence: Evidence, threshold_steps: float) -> dict[str, Any]:
    """Return the few numbers of a slice: error, order along episodes, the detector at s."""
    left = true_steps(evidence.fulfilled, evidence.lengths)
    known = left != UNKNOWN
    error = (evidence.steps_to_go - left)[known]
    curve = detector_curve(labelled(evidence.steps_to_go, evidence), [threshold_steps])
    return {
        "episodes": len(evidence.lengths),
        "fulfilled": curve.fulfilled,
        "known_frames": int(known.sum()),
        "mean_absolute_error_steps": float(np.abs(error).mean()) if known.any() else None,
        "bias_steps": float(error.mean()) if known.any() else None,
        "rank_correlation": rank_correlation(evidence.steps_to_go, evidence)["mean"],
        **detector_counts(curve, 0),
    }


def rank_correlation(distance: Float32[Array, "frames"], evidence: Evidence) -> dict[str, Any]:
    """Return Spearman's correlation with the true steps left along each fulfilled episode.

    Its mean over episodes, with a 95 % interval (normal approximation, two episodes or more); 1
    where the number falls with every step nearer. Episodes of fewer than five known observations
    are left out.
    """
    left = true_steps(evidence.fulfilled, evidence.lengths)
    parts = np.split(distance, evidence.cuts), np.split(left, evidence.cuts)
    found = [
        spearman(d[truth != UNKNOWN], truth[truth != UNKNOWN])
        for d, truth in zip(*parts, strict=True)
        if (truth != UNKNOWN).sum() >= _FEWEST_FRAMES
    ]
    if not found:
        return {"mean": None, "ci95": None, "episodes": 0}
    mean, ci95 = float(np.mean(found)), None
    if len(found) > 1:
        half = 1.96 * float(np.std(found, ddof=1)) / len(found) ** 0.5
        ci95 = [mean - half, mean + half]
    return {"mean": mean, "ci95": ci95, "episodes": len(found)}


def spearman(first: Array, second: Array) -> float:
    """Return the rank correlation of two rows of numbers; 0 where one of them does not vary.

    Ties share their mean rank. Source: Spearman 1904, Am. J. Psychol. 15, 72-101.
    """
    both = np.stack([ranks(first), ranks(second)])
    if not len(first) or not np.ptp(both, axis=1).all():
        return 0.0
    return float(np.corrcoef(both)[0, 1])


def ranks(values: Array) -> Float[Array, "values"]:
    """Return the rank of each value, from 1; ties share their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def _by_distance(
    evidence: Evidence, left: Int64[Array, "frames"], grouped_by: Array
) -> list[dict[str, Any]]:
    """Return errors of frames in groups, by the true steps left or by the predicted ones.

    By the truth even a perfectly calibrated model is too high near the goal and too low far from
    it, since the truth it cannot know pulls each way; by its own prediction it is right on average.
    """
    d, spread = evidence.steps_to_go, evidence.spread_steps
    rows: list[dict[str, Any]] = []
    for low, high in pairwise(DISTANCES):
        inside = (left != UNKNOWN) & (grouped_by >= low) & (grouped_by < high)
        if inside.any():
            error = d[inside] - left[inside]
            rows.append(
                {
                    "from_steps": low,
                    "to_steps": int(min(high - 1, np.ceil(grouped_by.max()))),
                    "frames": int(inside.sum()),
                    "mean_absolute_error_steps": float(np.abs(error).mean()),
                    "bias_steps": float(error.mean()),
                    "spread_steps": float(spread[inside].mean()),
                }
            )
    return rows


def _spread(evidence: Evidence, left: Int64[Array, "frames"]) -> dict[str, Any]:
    """Return whether the spread grows where d is wrong.

    Far from the goal both are large, which any model gets right; so the correlation is also taken
    among observations that look equally far, and averaged over these groups.
    """
    known = left != UNKNOWN
    d, spread = evidence.steps_to_go[known], evidence.spread_steps[known]
    error = np.abs(d - left[known])
    rows: list[dict[str, float]] = []
    for part in np.array_split(np.argsort(spread, kind="stable"), min(_GROUPS, len(spread))):
        mean, wrong = float(spread[part].mean()), float(error[part].mean())
        row = {"spread_steps": mean, "mean_absolute_error_steps": wrong, "frames": len(part)}
        rows.append(row)
    alike = np.array_split(np.argsort(d, kind="stable"), max(1, len(d) // 100))
    within = [spearman(spread[part], error[part]) for part in alike]
    return {
        "rank_correlation": spearman(spread, error),
        "rank_correlation_equally_far": float(np.mean(within)),
        "groups": rows,
    }


def _failures(evidence: Evidence) -> dict[str, Any]:
    """Return what the model says of episodes that were never fulfilled.

    `promised`: the mean probability it gave to being done in the steps that were left of such an
    episode, 0 for a model that knows; beside it the same of episodes that were fulfilled.
    """
    ends = np.repeat(np.cumsum(evidence.lengths), evidence.lengths)
    left_to_end = ends - 1 - np.arange(len(ends))
    in_time = evidence.edges[None, :] <= left_to_end[:, None]
    promised = (evidence.probabilities * in_time).sum(axis=1)
    before_end = left_to_end > 0
    known = true_steps(evidence.fulfilled, evidence.lengths) > 0
    failed = np.repeat(~evidence.succeeded, evidence.lengths)
    lowest = [d.min() for d in np.split(evidence.steps_to_go, evidence.cuts)]
    lowest_of_failures = np.array(lowest)[~evidence.succeeded]

    def mean(frames: Array) -> float | None:
        return float(promised[frames].mean()) if frames.any() else None

    return {
        "episodes": int((~evidence.succeeded).sum()),
        "promised": mean(failed & before_end),
        "promised_of_successes": mean(known),
        "lowest_steps_to_go": np.quantile(lowest_of_failures, [0.1, 0.5, 0.9]).tolist()
        if len(lowest_of_failures)
        else None,
    }


def detector_counts(curve: DetectorCurve, row: int) -> dict[str, int]:
    """Return how often a detector fired and was right, and the fulfilled episodes."""
    return {
        "fired": curve.fired[row],
        "right": round(curve.precision[row] * curve.fired[row]),
        "fulfilled": curve.fulfilled,
    }
