"""How right steps-to-go is as a reward, measured on labelled episodes.

    evidence          what a model predicts along episodes whose ground truth is known
    reward_metrics    error by distance, reliability, rank correlation, spread against error
    slice_metrics     the few numbers of a slice of the episodes

Steps are decisions: control steps, or chunks of them where the model decides so. The true
steps-to-go of an observation are counted to the first successful one after it. They are unknown
in an episode that never succeeded, and after success.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from nearer.core.arrays import Array
from nearer.evaluation.reliability import Reliability, reliability
from nearer.evaluation.threshold import (
    DetectorCounts,
    DetectorCurve,
    LabelledEpisode,
    detector_curve,
)

UNKNOWN = -1
"""True steps-to-go where nobody knows them."""
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
        success: whether the instruction was done, by ground truth.
    """

    name: str
    labels: str
    instructions: tuple[str, ...]
    lengths: Int64[Array, "episodes"]
    probabilities: Float32[Array, "frames bins"]
    edges: Float32[Array, "bins"]
    success: Bool[Array, "frames"]

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
        """Tell which episodes were successful at any observation."""
        return np.array([part.any() for part in np.split(self.success, self.cuts)], dtype=bool)

    @property
    def until_success(self) -> Bool[Array, "frames"]:
        """Tell which frames a perfect detector meets: up to each episode's first success."""
        parts = np.split(self.success, self.cuts)
        successes_before = [np.cumsum(part) - part for part in parts]
        return np.concatenate(successes_before) == 0

    @property
    def cut_at_success(self) -> "Evidence":
        """Return the episodes up to their first successful frame."""
        frames = self.until_success
        lengths = [int(part.sum()) for part in np.split(frames, self.cuts)]
        return replace(
            self,
            lengths=np.array(lengths),
            probabilities=self.probabilities[frames],
            success=self.success[frames],
        )

    def select(self, episodes: Bool[Array, "episodes"]) -> "Evidence":
        """Return some of the episodes."""
        frames = np.repeat(episodes, self.lengths)
        return replace(
            self,
            instructions=tuple(np.array(self.instructions, dtype=object)[episodes].tolist()),
            lengths=self.lengths[episodes],
            probabilities=self.probabilities[frames],
            success=self.success[frames],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCorrelation:
    """Spearman's correlation of d with the true steps-to-go along each successful episode.

    Attributes:
        mean: over episodes; 1 where d falls with every step nearer; None without any.
        ci95: its 95 % interval (normal approximation); None of fewer than two episodes.
        num_episodes: that it was measured on.
    """

    mean: float | None
    ci95: tuple[float, float] | None
    num_episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceGroup:
    """Frames of about the same distance to the goal.

    Attributes:
        from_steps: smallest distance.
        to_steps: largest distance.
        bias_steps: mean of d less the true steps-to-go.
        spread_steps: mean standard deviation of p(k | o, g).
    """

    from_steps: int
    to_steps: int
    num_frames: int
    mean_absolute_error_steps: float
    bias_steps: float
    spread_steps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadGroup:
    """Frames of about the same spread of p(k | o, g), in steps."""

    spread_steps: float
    mean_absolute_error_steps: float
    num_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadMetrics:
    """Whether the spread of p(k | o, g) is large where d is wrong.

    Attributes:
        rank_correlation: Spearman's, of spread and absolute error.
        rank_correlation_equally_far: the same among frames of about the same d, averaged.
        groups: equally many frames each, by their spread.
    """

    rank_correlation: float
    rank_correlation_equally_far: float
    groups: tuple[SpreadGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureMetrics:
    """What the model says of episodes that never succeeded.

    Attributes:
        num_episodes: such episodes.
        promised: mean probability it gave to success in the steps that were left of them; 0 for a
            model that knows; None without such frames.
        promised_of_successes: the same of episodes that succeeded.
        lowest_steps_to_go: the 10, 50 and 90 % quantile, over these episodes, of their lowest d.
    """

    num_episodes: int
    promised: float | None
    promised_of_successes: float | None
    lowest_steps_to_go: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardMetrics:
    """How right steps-to-go is on labelled episodes.

    Attributes:
        by_distance: frames grouped by their true steps-to-go; empty where none is known.
        by_predicted: frames grouped by d.
        spread: None where no true steps-to-go are known.
        reliability: None where no true steps-to-go are known.
    """

    num_frames: int
    failures: FailureMetrics
    rank_correlation: RankCorrelation
    by_distance: tuple[DistanceGroup, ...]
    by_predicted: tuple[DistanceGroup, ...]
    spread: SpreadMetrics | None
    reliability: Reliability | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceMetrics(DetectorCounts):
    """Some of the episodes in short; the detector's counts are at the recommended threshold.

    Attributes:
        num_known_frames: frames whose true steps-to-go are known.
        mean_absolute_error_steps: of d on these; None without any.
        bias_steps: mean of d less the true steps-to-go.
        rank_correlation: mean over episodes, see `RankCorrelation`.
    """

    num_episodes: int
    num_known_frames: int
    mean_absolute_error_steps: float | None
    bias_steps: float | None
    rank_correlation: float | None


def labelled_episodes(
    distance: Float32[Array, "frames"], evidence: Evidence
) -> list[LabelledEpisode]:
    """Return the episodes with a number of any model's in place of d."""
    parts = np.split(distance, evidence.cuts), np.split(evidence.success, evidence.cuts)
    return [
        LabelledEpisode(steps_to_go=d, success=success) for d, success in zip(*parts, strict=True)
    ]


def true_steps(
    success: Bool[Array, "frames"], lengths: Int64[Array, "episodes"]
) -> Int64[Array, "frames"]:
    """Return the steps from each observation to its episode's first successful one.

    UNKNOWN after that, and in episodes without one.
    """
    left = np.full(len(success), UNKNOWN, dtype=np.int64)
    ends = np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends, strict=True):
        first = int(success[start:end].argmax())
        if success[start + first]:
            left[start : start + first + 1] = np.arange(first, -1, -1)
    return left


def reward_metrics(evidence: Evidence, width_steps: int) -> RewardMetrics:
    """Return how right steps-to-go is on labelled episodes.

    Args:
        evidence: the episodes.
        width_steps: steps a bin.
    """
    left = true_steps(evidence.success, evidence.lengths)
    is_known = left != UNKNOWN
    probabilities, edges = evidence.probabilities[is_known], evidence.edges
    any_known = bool(is_known.any())
    return RewardMetrics(
        num_frames=len(left),
        failures=_failures(evidence),
        rank_correlation=rank_correlation(evidence.steps_to_go, evidence),
        by_distance=_by_distance(evidence, left, left) if any_known else (),
        by_predicted=_by_distance(evidence, left, evidence.steps_to_go) if any_known else (),
        spread=_spread(evidence, left) if any_known else None,
        reliability=reliability(probabilities, edges, left[is_known], width_steps)
        if any_known
        else None,
    )


def slice_metrics(evidence: Evidence, threshold_steps: float) -> SliceMetrics:
    """Return the few numbers of a slice: error, order along episodes, the detector at s."""
    left = true_steps(evidence.success, evidence.lengths)
    is_known = left != UNKNOWN
    error = (evidence.steps_to_go - left)[is_known]
    curve = detector_curve(labelled_episodes(evidence.steps_to_go, evidence), [threshold_steps])
    counts = detector_counts(curve, 0)
    return SliceMetrics(
        num_episodes=len(evidence.lengths),
        num_known_frames=int(is_known.sum()),
        mean_absolute_error_steps=float(np.abs(error).mean()) if is_known.any() else None,
        bias_steps=float(error.mean()) if is_known.any() else None,
        rank_correlation=rank_correlation(evidence.steps_to_go, evidence).mean,
        num_detections=counts.num_detections,
        num_correct_detections=counts.num_correct_detections,
        num_success=counts.num_success,
    )


def rank_correlation(distance: Float32[Array, "frames"], evidence: Evidence) -> RankCorrelation:
    """Return Spearman's correlation with the true steps-to-go along each successful episode.

    Episodes of fewer than five known observations are left out.
    """
    left = true_steps(evidence.success, evidence.lengths)
    parts = np.split(distance, evidence.cuts), np.split(left, evidence.cuts)
    correlations = [
        spearman(d[true != UNKNOWN], true[true != UNKNOWN])
        for d, true in zip(*parts, strict=True)
        if (true != UNKNOWN).sum() >= _FEWEST_FRAMES
    ]
    if not correlations:
        return RankCorrelation(mean=None, ci95=None, num_episodes=0)
    mean, ci95 = float(np.mean(correlations)), None
    if len(correlations) > 1:
        half = 1.96 * float(np.std(correlations, ddof=1)) / len(correlations) ** 0.5
        ci95 = (mean - half, mean + half)
    return RankCorrelation(mean=mean, ci95=ci95, num_episodes=len(correlations))


def spearman(first: Array, second: Array) -> float:
    """Return the rank correlation of two rows of numbers; 0 where one of them does not vary.

    Ties share their average rank. Source: Spearman 1904, Am. J. Psychol. 15, 72-101.
    """
    both = np.stack([ranks(first), ranks(second)])
    if not len(first) or not np.ptp(both, axis=1).all():
        return 0.0
    return float(np.corrcoef(both)[0, 1])


def ranks(values: Array) -> Float[Array, "values"]:
    """Return the rank of each value, from 1; ties share their average rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def _by_distance(
    evidence: Evidence, left: Int64[Array, "frames"], grouped_by: Array
) -> tuple[DistanceGroup, ...]:
    """Return errors of frames in groups, by the true steps-to-go or by the predicted ones.

    By the true ones even a perfectly calibrated model is too high near the goal and too low far
    from it, since it predicts a mean of what it cannot tell apart; by its own prediction it is
    right on average.
    """
    d, spread = evidence.steps_to_go, evidence.spread_steps
    groups: list[DistanceGroup] = []
    for low, high in pairwise(DISTANCES):
        inside = (left != UNKNOWN) & (grouped_by >= low) & (grouped_by < high)
        if inside.any():
            error = d[inside] - left[inside]
            groups.append(
                DistanceGroup(
                    from_steps=low,
                    to_steps=int(min(high - 1, np.ceil(grouped_by.max()))),
                    num_frames=int(inside.sum()),
                    mean_absolute_error_steps=float(np.abs(error).mean()),
                    bias_steps=float(error.mean()),
                    spread_steps=float(spread[inside].mean()),
                )
            )
    return tuple(groups)


def _spread(evidence: Evidence, left: Int64[Array, "frames"]) -> SpreadMetrics:
    """Return whether the spread grows where d is wrong.

    Far from the goal both are large, which any model gets right; so the correlation is also taken
    among observations that look equally far, and averaged over these groups.
    """
    is_known = left != UNKNOWN
    d, spread = evidence.steps_to_go[is_known], evidence.spread_steps[is_known]
    error = np.abs(d - left[is_known])
    groups = [
        SpreadGroup(
            spread_steps=float(spread[part].mean()),
            mean_absolute_error_steps=float(error[part].mean()),
            num_frames=len(part),
        )
        for part in np.array_split(np.argsort(spread, kind="stable"), min(_GROUPS, len(spread)))
    ]
    alike = np.array_split(np.argsort(d, kind="stable"), max(1, len(d) // 100))
    within = [spearman(spread[part], error[part]) for part in alike]
    return SpreadMetrics(
        rank_correlation=spearman(spread, error),
        rank_correlation_equally_far=float(np.mean(within)),
        groups=tuple(groups),
    )


def _failures(evidence: Evidence) -> FailureMetrics:
    """Return what the model says of episodes that never succeeded."""
    ends = np.repeat(np.cumsum(evidence.lengths), evidence.lengths)
    left_to_end = ends - 1 - np.arange(len(ends))
    in_time = evidence.edges[None, :] <= left_to_end[:, None]
    promised = (evidence.probabilities * in_time).sum(axis=1)
    before_end = left_to_end > 0
    before_success = true_steps(evidence.success, evidence.lengths) > 0
    failed = np.repeat(~evidence.succeeded, evidence.lengths)
    lowest = [d.min() for d in np.split(evidence.steps_to_go, evidence.cuts)]
    lowest_of_failures = np.array(lowest)[~evidence.succeeded]

    def mean(frames: Array) -> float | None:
        return float(promised[frames].mean()) if frames.any() else None

    quantiles = None
    if len(lowest_of_failures):
        low, median, high = np.quantile(lowest_of_failures, [0.1, 0.5, 0.9]).tolist()
        quantiles = low, median, high
    return FailureMetrics(
        num_episodes=int((~evidence.succeeded).sum()),
        promised=mean(failed & before_end),
        promised_of_successes=mean(before_success),
        lowest_steps_to_go=quantiles,
    )


def detector_counts(curve: DetectorCurve, row: int) -> DetectorCounts:
    """Return how often a detector fired and was right, and the successful episodes."""
    return DetectorCounts(
        num_detections=curve.num_detections[row],
        num_correct_detections=round(curve.precision[row] * curve.num_detections[row]),
        num_success=curve.num_success,
    )
