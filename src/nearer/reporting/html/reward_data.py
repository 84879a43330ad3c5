"""What nearer eval-reward left in a run, as the report reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nearer.core.errors import ConfigError
from nearer.core.intervals import Rate
from nearer.evaluation.detector_metrics import precision_of, recall_of
from nearer.reporting.html.run_data import CalibrationResult, calibration_in, number
from nearer.reporting.reward_table import failures_line
from nearer.runs.run import read_json

MEASURE = "nearer eval-reward --checkpoint RUN --data DATASET --env ID"
_FILE = "eval_reward/calibration.json"
_ADVICE = f"measure again with {MEASURE}"

Row = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some of a source's episodes, in short.

    Attributes:
        error_steps: mean absolute error of d where the truth is known; nan where it never is.
        rank: mean rank correlation along fulfilled episodes; nan without any.
    """

    name: str
    episodes: int
    error_steps: float
    bias_steps: float
    rank: float
    precision: Rate
    recall: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found on one source of labelled episodes.

    Attributes:
        labels: how they were made.
        precision: of a detector whose threshold was chosen on the other half of the episodes.
        recall: the same detector's.
        by_predicted: groups of frames by d, where by_distance has them by the truth.
        nominal: levels of the predicted quantiles.
        observed: share of the truth below each; empty where nothing was fulfilled.
        failures: what it says of episodes that never were, a sentence; "" without any.
    """

    name: str
    labels: str
    precision: Rate
    recall: Rate
    by_distance: Sequence[Row]
    by_predicted: Sequence[Row]
    nominal: Sequence[float]
    observed: Sequence[float]
    failures: str
    spread_groups: Sequence[Row]
    spread_rank: float
    spread_rank_equally_far: float
    slices: Sequence[Slice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One way to reward and detect, a number a training seed.

    Attributes:
        gap: interval of its mean average precision less that of steps-to-go; None: no comparison.
    """

    name: str
    average_precision: Sequence[float]
    gap: tuple[float, float] | None
    rank: float
    told_apart: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """A calibration.json of nearer eval-reward.

    Attributes:
        unit: what steps count.
        detector: at every threshold, with the recommended one; None where no labels are the truth.
    """

    unit: str
    detector: CalibrationResult | None

    measured: Sequence[Measured]
    baselines: Mapping[str, Sequence[Baseline]]
    why_no_rivals: str


def read_trust(root: Path) -> Trust | None:
    """Return what nearer eval-reward left in a run; None where it has not been asked.

    Raises:
        ConfigError: the file is none of nearer eval-reward's.
    """
    path = root / _FILE
    if not path.exists():
        return None
    document = read_json(path, _ADVICE)
    try:
        return _trust_in(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} must be one nearer eval-reward wrote, got {error}; {_ADVICE}"
        ) from error


def _trust_in(document: Mapping[str, Any]) -> Trust:
    compared = document["comparisons"]
    chosen = document["threshold_steps"] is not None and document["steps_to_go"]
    return Trust(
        unit=str(document["unit"]),
        detector=calibration_in(document) if chosen else None,
        measured=[_measured_in(name, one) for name, one in document["sources"].items()],
        baselines={
            name: [_rival_in(baseline, one) for baseline, one in rows.items()]
            for name, rows in compared.get("sources", {}).items()
        },
        why_no_rivals=str(compared.get("none", "")),
    )


def _measured_in(name: str, document: Mapping[str, Any]) -> Measured:
    spread: Mapping[str, Any] = document["spread"] or {"groups": []}
    answers: Mapping[str, Any] = document["steps_to_go"] or {"coverage": {}}
    coverage: Mapping[str, Any] = answers["coverage"]
    return Measured(
        name=name,
        labels=str(document["labels"]),
        precision=precision_of(document["halves"]),
        recall=recall_of(document["halves"]),
        by_distance=[_row(one) for one in document["by_distance"]],
        by_predicted=[_row(one) for one in document["by_predicted"]],
        nominal=[number(level) for level in coverage.get("nominal", ())],
        observed=[number(share) for share in coverage.get("observed", ())],
        failures=failures_line(document["failures"]),
        spread_groups=[_row(one) for one in spread["groups"]],
        spread_rank=number(spread.get("rank_correlation")),
        spread_rank_equally_far=number(spread.get("rank_correlation_equally_far")),
        slices=[
            Slice(
                name=slice_name,
                episodes=int(one["episodes"]),
                error_steps=number(one["mean_absolute_error_steps"]),
                bias_steps=number(one["bias_steps"]),
                rank=number(one["rank_correlation"]),
                precision=precision_of(one),
                recall=recall_of(one),
            )
            for slice_name, one in document["slices"].items()
        ],
    )


def _rival_in(name: str, document: Mapping[str, Any]) -> Baseline:
    seeds = document["seeds"]
    gap = document.get("gap")

    def mean(metric: str) -> float:
        return float(np.mean([number(one[metric]) for one in seeds]))

    # The file has steps-to-go less the rival; a reader wants to see what the rival gains.
    return Baseline(
        name=name,
        average_precision=[number(one["average_precision"]) for one in seeds],
        gap=None if gap is None else (-number(gap["ci95"][1]), -number(gap["ci95"][0])),
        rank=mean("rank_correlation"),
        told_apart=mean("success_auc"),
    )


def _row(document: Mapping[str, Any]) -> Row:
    return {name: number(value) for name, value in document.items()}
