"""How far the steps-to-go model can be trusted: the detector's threshold, and reliability.

A threshold s is judged as practice uses it: the detector fires at the first observation with
d <= s, and was right if the instruction was fulfilled there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError

_RULE = "the best recall at a precision of at least {min_precision} on {where}"
_OTHERWISE = (
    "none on {where} has a precision of {min_precision}: the best harmonic mean with recall"
)
_NOTHING = (
    "none rightly detects anything on {where}: the smallest, which is as good as no detector; pass "
    "--threshold where it is used"
)
THRESHOLDS_STEPS = tuple(round(float(s), 3) for s in np.geomspace(0.02, 20, 61))
"""Thresholds that are tried, in control steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledEpisode:
    """An episode with the model's d and the truth, observation by observation."""

    steps_to_go: Float32[Array, "obs"]
    fulfilled: Bool[Array, "obs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorCurve:
    """How the detector does at each threshold, over whole episodes.

    Attributes:
        thresholds_steps: s, in control steps, rising.
        precision: share of the episodes it fired in where it was right; 1 where it never fired.
        recall: share of the episodes with a fulfilled observation where it fired rightly.
        fired: episodes it fired in.
        delay_steps: mean steps from the first fulfilled observation to firing, where right.
        episodes: episodes in all.
        fulfilled: episodes with a fulfilled observation.
    """

    thresholds_steps: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    fired: tuple[int, ...]
    delay_steps: tuple[float, ...]
    episodes: int
    fulfilled: int


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
        is_right = fires & episode.fulfilled[at]
        fired += fires
        right += is_right
        delays += np.where(is_right, at - int(episode.fulfilled.argmax()), 0)
    fulfilled = sum(bool(episode.fulfilled.any()) for episode in episodes)
    precision = np.where(fired > 0, right / np.maximum(fired, 1), 1.0)
    return DetectorCurve(
        thresholds_steps=tuple(thresholds_steps),
        precision=tuple(precision.tolist()),
        recall=tuple((right / max(fulfilled, 1)).tolist()),
        fired=tuple(fired.tolist()),
        delay_steps=tuple((delays / np.maximum(right, 1)).tolist()),
        episodes=len(episodes),
        fulfilled=fulfilled,
    )


def choose_threshold(curves: Mapping[str, DetectorCurve], min_precision: float) -> float:
    """Return the threshold with the best worst-case recall that is precise on every curve.

    A false alarm ends an episode as a success that was none and pays its reward; a miss only
    lets the episode run on. So precision is a condition and recall the aim. Where no threshold
    that fires is precise enough, the one with the best harmonic mean of both is returned: the
    most precise ones hardly ever fire. Where none is ever right, the smallest is.
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
    allowed = useful & (precision >= min_precision)
    aim = recall if allowed.any() else 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = int(np.where(allowed if allowed.any() else useful, aim, -1.0).argmax())
    rule = _RULE if allowed.any() else _OTHERWISE if useful.any() else _NOTHING
    where = " and ".join(curves)
    threshold = float(rows[0].thresholds_steps[best])
    return threshold, rule.format(min_precision=min_precision, where=where)


def reliability(
    probabilities: Float32[Array, "frames bins"],
    edges: Float32[Array, "bins"],
    true_steps: Int64[Array, "frames"],
    width_steps: int,
) -> dict[str, Any]:
    """Return how predicted steps-to-go compare with true ones on held-out frames, as JSON values.

    `by_true_steps` groups frames by their true steps-to-go; `coverage` says which share of the
    truth lay below each predicted quantile: a reliable model has `observed` equal to `nominal`.
    Where a quantile lies within the bin of the truth, the part of the bin's probability below it
    counts. Source: Czado, Gneiting and Held 2009, Biometrics 65, 1254-1261, section 2.1.
    """
    predicted = probabilities @ edges
    bin_of_truth = np.minimum(true_steps // width_steps, len(edges) - 1)
    rows = np.arange(len(true_steps))
    below = np.cumsum(probabilities, axis=1)[rows, bin_of_truth]
    here = np.maximum(probabilities[rows, bin_of_truth], 1e-12)
    nominal = np.linspace(0.05, 0.95, 19)
    return {
        "frames": len(true_steps),
        "mean_absolute_error_steps": float(np.abs(predicted - true_steps).mean()),
        "by_true_steps": _by_true_steps(predicted, true_steps),
        "coverage": {
            "nominal": nominal.round(2).tolist(),
            "observed": [
                float(np.clip((level - below + here) / here, 0, 1).mean()) for level in nominal
            ],
        },
    }


def _by_true_steps(
    predicted: Float[Array, "frames"], true_steps: Int64[Array, "frames"]
) -> list[dict[str, float]]:
    edges = [0, 1, 2, 3, 5, 8, *range(10, int(true_steps.max()) + 11, 10)]
    groups: list[dict[str, float]] = []
    for low, high in pairwise(edges):
        inside = (true_steps >= low) & (true_steps < high)
        if inside.sum() < 10:
            continue
        values = predicted[inside]
        p10, p90 = np.quantile(values, [0.1, 0.9])
        groups.append(
            {
                "true_steps": float(true_steps[inside].mean()),
                "predicted_mean": float(values.mean()),
                "predicted_p10": float(p10),
                "predicted_p90": float(p90),
                "frames": int(inside.sum()),
            }
        )
    return groups


def calibration_document(
    curves: Mapping[str, DetectorCurve],
    min_precision: float,
    reliability_on_held_out: Any,
    decisive: Sequence[str],
) -> dict[str, Any]:
    """Return what a run keeps as calibration.json; the `decisive` curves choose the threshold."""
    threshold, rule = _choose({name: curves[name] for name in decisive}, min_precision)
    chosen = {name: _at(curve, threshold) for name, curve in curves.items()}
    return {
        "threshold_steps": threshold,
        "rule": rule,
        "chosen": chosen,
        "curves": {name: asdict(curve) for name, curve in curves.items()},
        "steps_to_go": reliability_on_held_out,
    }


def _at(curve: DetectorCurve, threshold_steps: float) -> dict[str, float]:
    row = curve.thresholds_steps.index(threshold_steps)
    return {
        "precision": curve.precision[row],
        "recall": curve.recall[row],
        "fired": curve.fired[row],
        "delay_steps": curve.delay_steps[row],
        "episodes": curve.episodes,
    }
