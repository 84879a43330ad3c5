"""The detector's threshold: how it does at each one, and which is chosen.

A threshold s is measured as practice uses it: the detector fires at the first observation with
d <= s, and was right if the instruction was done there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.core.intervals import Rate
from nearer.runs.json_files import require

_RULE = (
    "the best recall at a precision of at least {min_precision}, less a standard error, on {where}"
)
_OTHERWISE = "none on {where} has a precision of {min_precision}: the best F1, with recall"
_NOTHING = (
    "none rightly detects anything on {where}: the smallest, which is as good as no detector; pass "
    "--threshold where it is used"
)
THRESHOLDS_STEPS = tuple(round(float(s), 3) for s in np.geomspace(0.02, 20, 61))
"""Thresholds that are tried, in control steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledEpisode:
    """An episode with the model's d and its ground truth, observation by observation.

    Attributes:
        success: whether the instruction was done there, by ground truth.
    """

    steps_to_go: Float32[Array, "obs"]
    success: Bool[Array, "obs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorCurve:
    """How the detector does at each threshold, over whole episodes.

    Attributes:
        thresholds_steps: s, in control steps, rising.
        precision: fraction of the episodes it fired in where it was right; 1 where it never fired.
        recall: fraction of the successful episodes where it fired rightly.
        num_detections: episodes it fired in.
        delay_steps: mean steps from the first successful observation to firing, where right.
        num_episodes: episodes in all.
        num_success: episodes with a successful observation.
    """

    thresholds_steps: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    num_detections: tuple[int, ...]
    delay_steps: tuple[float, ...]
    num_episodes: int
    num_success: int

    def __post_init__(self) -> None:
        """Refuse lists that are not of the same thresholds, and rates that are none."""
        lists = self.precision, self.recall, self.num_detections, self.delay_steps
        lengths = (len(self.thresholds_steps), *map(len, lists))
        equal = len(set(lengths)) == 1 and lengths[0] > 0
        require(equal, "a curve's lists must be equally long", lengths)
        rates = (*self.precision, *self.recall)
        require(all(0 <= rate <= 1 for rate in rates), "rates must lie in [0, 1]", rates)
        counts = (self.num_episodes, self.num_success, *self.num_detections)
        in_range = all(0 <= count <= self.num_episodes for count in counts)
        require(in_range, "counts of episodes must lie between 0 and all", counts)

    def at(self, threshold_steps: float) -> "DetectorAtThreshold":
        """Return how the detector does at the curve's threshold that is nearest to this one."""
        row = int(np.abs(np.array(self.thresholds_steps) - threshold_steps).argmin())
        return DetectorAtThreshold(
            precision=self.precision[row],
            recall=self.recall[row],
            num_detections=self.num_detections[row],
            delay_steps=self.delay_steps[row],
            num_episodes=self.num_episodes,
            num_success=self.num_success,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorCounts:
    """How often a detector fired, how often it was right, and how often it should have fired.

    Attributes:
        num_detections: episodes it fired in.
        num_correct_detections: of these, successful where it fired.
        num_success: episodes with a successful observation.
    """

    num_detections: int
    num_correct_detections: int
    num_success: int

    @property
    def precision(self) -> Rate:
        """Return the fraction of detections that were right."""
        return Rate(successes=self.num_correct_detections, total=self.num_detections)

    @property
    def recall(self) -> Rate:
        """Return the fraction of successful episodes that were rightly detected."""
        return Rate(successes=self.num_correct_detections, total=self.num_success)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorAtThreshold:
    """How the detector does at one threshold; see `DetectorCurve`."""

    precision: float
    recall: float
    num_detections: int
    delay_steps: float
    num_episodes: int
    num_success: int

    def __post_init__(self) -> None:
        """Refuse rates and counts that no detector can have."""
        rates = self.precision, self.recall
        require(all(0 <= rate <= 1 for rate in rates), "rates must lie in [0, 1]", rates)
        counts = self.num_detections, self.num_success, self.num_episodes
        in_range = all(0 <= count <= self.num_episodes for count in counts)
        require(in_range, "counts of episodes must lie between 0 and all", counts)

    @property
    def counts(self) -> DetectorCounts:
        """Return the same as counts, whose rates have intervals."""
        return DetectorCounts(
            num_detections=self.num_detections,
            num_correct_detections=round(self.precision * self.num_detections),
            num_success=self.num_success,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdChoice:
    """The chosen threshold s, by which rule, and how the detector does on every kind of episodes.

    Attributes:
        threshold_steps: s, in the model's own steps.
        rule: by which it was chosen, for people.
        at_threshold: kind of labelled episodes -> how the detector does at s.
        curves: kind of labelled episodes -> how it does at every threshold.
    """

    threshold_steps: float
    rule: str
    at_threshold: Mapping[str, DetectorAtThreshold]
    curves: Mapping[str, DetectorCurve]


def detector_curve(
    episodes: Sequence[LabelledEpisode], thresholds_steps: Sequence[float] = THRESHOLDS_STEPS
) -> DetectorCurve:
    """Replay the detector on labelled episodes at every threshold."""
    fired = np.zeros(len(thresholds_steps), dtype=np.int64)
    right = np.zeros(len(thresholds_steps), dtype=np.int64)
    delays = np.zeros(len(thresholds_steps))
    for episode in episodes:
        lowest_so_far = np.minimum.accumulate(episode.steps_to_go)
        first = np.searchsorted(-lowest_so_far, -np.asarray(thresholds_steps, dtype=np.float32))
        fires = first < len(lowest_so_far)
        at = np.minimum(first, len(lowest_so_far) - 1)
        is_right = fires & episode.success[at]
        fired += fires
        right += is_right
        delays += np.where(is_right, at - int(episode.success.argmax()), 0)
    num_success = sum(bool(episode.success.any()) for episode in episodes)
    precision = np.where(fired > 0, right / np.maximum(fired, 1), 1.0)
    return DetectorCurve(
        thresholds_steps=tuple(thresholds_steps),
        precision=tuple(precision.tolist()),
        recall=tuple((right / max(num_success, 1)).tolist()),
        num_detections=tuple(fired.tolist()),
        delay_steps=tuple((delays / np.maximum(right, 1)).tolist()),
        num_episodes=len(episodes),
        num_success=num_success,
    )


def choose_threshold(curves: Mapping[str, DetectorCurve], min_precision: float) -> float:
    """Return the threshold with the best worst-case recall that is precise on every curve.

    A false alarm ends an episode as a success that was none and pays its reward; a miss only
    lets the episode run on. So precision is a condition and recall the aim. It may be lower by one
    standard error: of 100 rollouts, a single false alarm would otherwise move the threshold to
    where half of the successes go unseen (docs/log.md). Where no threshold that fires is precise
    enough, the one with the best F1 of both is returned: the most precise ones hardly ever fire.
    Where none is ever right, the smallest is.

    Source: Breiman et al. 1984, Classification and Regression Trees, section 3.4.3, for the
    one-standard-error rule.
    """
    return _choose(curves, min_precision)[0]


def _choose(curves: Mapping[str, DetectorCurve], min_precision: float) -> tuple[float, str]:
    """Return the threshold, and by which rule it was chosen."""
    if not curves:
        raise ConfigError("the threshold must be chosen on labelled episodes, got none")
    rows = list(curves.values())
    precision = np.min([row.precision for row in rows], axis=0)
    recall = np.min([row.recall for row in rows], axis=0)
    useful = recall > 0
    allowed = useful & np.all([_is_precise(row, min_precision) for row in rows], axis=0)
    aim = recall if allowed.any() else 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = int(np.where(allowed if allowed.any() else useful, aim, -1.0).argmax())
    rule = _RULE if allowed.any() else _OTHERWISE if useful.any() else _NOTHING
    where = " and ".join(curves)
    threshold = float(rows[0].thresholds_steps[best])
    return threshold, rule.format(min_precision=min_precision, where=where)


def _is_precise(curve: DetectorCurve, min_precision: float) -> Bool[Array, "thresholds"]:
    """Tell where precision is not lower by more than a standard error of so many detections."""
    detections = np.maximum(curve.num_detections, 1)
    error = np.sqrt(min_precision * (1 - min_precision) / detections)
    return np.array(curve.precision) >= min_precision - error


def threshold_choice(
    curves: Mapping[str, DetectorCurve], min_precision: float, decisive: Sequence[str]
) -> ThresholdChoice:
    """Return the threshold that the `decisive` curves choose, and how all curves are there."""
    threshold, rule = _choose({name: curves[name] for name in decisive}, min_precision)
    return ThresholdChoice(
        threshold_steps=threshold,
        rule=rule,
        at_threshold={name: curve.at(threshold) for name, curve in curves.items()},
        curves=dict(curves),
    )
