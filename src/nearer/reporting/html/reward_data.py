"""A run's reward report, as the page shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearer.core.intervals import Rate
from nearer.evaluation.reward_metrics import DistanceGroup, SliceMetrics, SpreadGroup
from nearer.evaluation.reward_report import (
    FOLDER,
    REWARD_REPORT,
    BaselineReport,
    RewardReport,
    SourceReport,
    read_reward_report,
)
from nearer.evaluation.threshold import ThresholdChoice
from nearer.reporting.html.run_data import number
from nearer.reporting.reward_table import failures_line

MEASURE = "nearer eval-reward --checkpoint RUN --data DATASET --env ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some of a source's episodes, in short.

    Attributes:
        error_steps: mean absolute error of d; nan where no true steps-to-go are known.
        rank: mean rank correlation along successful episodes; nan without any.
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
    """What was measured on one source of labelled episodes.

    Attributes:
        labels: how they were made.
        precision: of a detector whose threshold was chosen on the other half of the episodes.
        recall: the same detector's.
        by_predicted: frames grouped by d; by_distance has them by their true steps-to-go.
        nominal: levels of the predicted quantiles.
        observed: fraction of true steps-to-go below each; empty without a success.
        failures: what it says of episodes that never succeeded, a sentence; "" without any.
    """

    name: str
    labels: str
    precision: Rate
    recall: Rate
    by_distance: Sequence[DistanceGroup]
    by_predicted: Sequence[DistanceGroup]
    nominal: Sequence[float]
    observed: Sequence[float]
    failures: str
    spread_groups: Sequence[SpreadGroup]
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
    """A reward report.

    Attributes:
        unit: what steps count.
        detector: the recommended threshold, and how all do; None without labels by ground truth.
    """

    unit: str
    detector: ThresholdChoice | None
    measured: Sequence[Measured]
    baselines: Mapping[str, Sequence[Baseline]]
    why_no_baselines: str


def read_trust(root: Path) -> Trust | None:
    """Return the reward report of a run; None where its reward has not been measured.

    Raises:
        ConfigError: the file is not as this version writes it.
    """
    path = root / FOLDER / REWARD_REPORT
    if not path.exists():
        return None
    return _trust_in(read_reward_report(path, f"measure again with {MEASURE}"))


def _trust_in(report: RewardReport) -> Trust:
    compared: Mapping[str, Mapping[str, BaselineReport]] = (
        report.baselines.sources if report.baselines else {}
    )
    return Trust(
        unit=report.unit,
        detector=report.recommended,
        measured=[_measured_in(name, source) for name, source in report.sources.items()],
        baselines={
            name: [_baseline_in(baseline, row) for baseline, row in rows.items()]
            for name, rows in compared.items()
        },
        why_no_baselines=report.why_no_baselines,
    )


def _measured_in(name: str, source: SourceReport) -> Measured:
    metrics = source.reward
    coverage = metrics.reliability.coverage if metrics.reliability else None
    spread = metrics.spread
    return Measured(
        name=name,
        labels=source.labels,
        precision=source.detector.precision,
        recall=source.detector.recall,
        by_distance=metrics.by_distance,
        by_predicted=metrics.by_predicted,
        nominal=coverage.nominal if coverage else (),
        observed=coverage.observed if coverage else (),
        failures=failures_line(metrics.failures),
        spread_groups=spread.groups if spread else (),
        spread_rank=spread.rank_correlation if spread else np.nan,
        spread_rank_equally_far=spread.rank_correlation_equally_far if spread else np.nan,
        slices=[_slice_in(slice_name, row) for slice_name, row in source.slices.items()],
    )


def _slice_in(name: str, metrics: SliceMetrics) -> Slice:
    return Slice(
        name=name,
        episodes=metrics.num_episodes,
        error_steps=number(metrics.mean_absolute_error_steps),
        bias_steps=number(metrics.bias_steps),
        rank=number(metrics.rank_correlation),
        precision=metrics.precision,
        recall=metrics.recall,
    )


def _baseline_in(name: str, report: BaselineReport) -> Baseline:
    gap = report.gap
    # The report has steps-to-go less the baseline; a reader wants what the baseline gains.
    return Baseline(
        name=name,
        average_precision=[number(seed.average_precision) for seed in report.seeds],
        gap=None if gap is None else (-gap.ci95[1], -gap.ci95[0]),
        rank=_mean([seed.rank_correlation for seed in report.seeds]),
        told_apart=_mean([seed.success_auc for seed in report.seeds]),
    )


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([number(value) for value in values]))
