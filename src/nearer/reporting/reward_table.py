"""A reward report as Markdown: for the terminal, for reading beside its JSON, and for the card."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from nearer.core.intervals import Rate
from nearer.evaluation.reliability import Reliability
from nearer.evaluation.reward_metrics import (
    DistanceGroup,
    FailureMetrics,
    RankCorrelation,
    SliceMetrics,
    SpreadMetrics,
)
from nearer.evaluation.reward_report import (
    BaselineComparison,
    BaselineReport,
    RewardReport,
    SourceReport,
)

_LEVELS = (0.1, 0.5, 0.9)  # of the predicted quantiles whose coverage is told


def reward_table(report: RewardReport) -> str:
    """Return a reward report as Markdown."""
    parts = [_head(report)]
    for name, source in report.sources.items():
        parts += [
            f"### {name}",
            _about(source),
            _slices(source.slices),
            _distances("true", source.reward.by_distance),
            _distances("predicted", source.reward.by_predicted),
            failures_line(source.reward.failures),
            _reliability(source.reward.reliability),
            _spread(source.reward.spread),
        ]
    if report.baselines is None:
        parts.append(f"No comparisons: {report.why_no_baselines}.")
    else:
        parts += [
            _baselines(name, rows, report.baselines)
            for name, rows in report.baselines.sources.items()
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(report: RewardReport) -> str:
    recommended, unit = report.recommended, report.unit
    lines = [f"Trained on: {report.trained_on}."]
    if recommended is None:
        lines.append("No threshold is recommended: no labels are ground truth.")
    else:
        threshold = recommended.threshold_steps
        lines.append(f"Recommended threshold s = {threshold:g} {unit}: {recommended.rule}.")
    if unit != "steps":
        lines.append(f"All steps below are {unit}.")
    if report.run_threshold_steps is not None:
        lines.append(f"Its run was calibrated to s = {report.run_threshold_steps:g}.")
    return "\n".join([f"## Reward metrics of {report.checkpoint}", "", *lines])


def _about(source: SourceReport) -> str:
    words = [f"Labels: {source.labels}.", _rank_correlation(source.reward.rank_correlation)]
    detector = source.detector
    if detector.halves:
        where = " and ".join(f"{half.precision:.2f}" for half in detector.halves)
        words.append(
            "Threshold chosen on one half, measured on the other: precision "
            f"{_rate(detector.precision)}, recall {_rate(detector.recall)}; where they were "
            f"chosen they had a precision of {where}."
        )
    audits = source.remarks.audits
    if audits:
        words.append(
            f"Audits in practice: precision {_rate(audits.precision)}, recall "
            f"{_rate(audits.recall)}."
        )
    return " ".join(part for part in words if part)


def _rank_correlation(correlation: RankCorrelation) -> str:
    if correlation.mean is None:
        return ""
    interval = "[{:.3f}, {:.3f}] ".format(*correlation.ci95) if correlation.ci95 else ""
    return (
        "Rank correlation of d with the true steps-to-go, along an episode: "
        f"{correlation.mean:.3f} {interval}(n = {correlation.num_episodes} successful episodes)."
    )


def _slices(slices: Mapping[str, SliceMetrics]) -> str:
    rows = [
        [
            name,
            f"{metrics.num_episodes}",
            f"{metrics.num_success}",
            _number(metrics.mean_absolute_error_steps, 1),
            _number(metrics.bias_steps, 1, sign=True),
            _number(metrics.rank_correlation, 2),
            _rate(metrics.precision),
            _rate(metrics.recall),
        ]
        for name, metrics in slices.items()
    ]
    head = ["slice", "episodes", "successful", "error, steps", "bias", "rank"]
    return _table([*head, "precision at s", "recall at s"], rows)


def _distances(kind: str, groups: Sequence[DistanceGroup]) -> str:
    rows = [
        [
            f"{group.from_steps} to {group.to_steps}",
            f"{group.num_frames:,}",
            _number(group.mean_absolute_error_steps, 1),
            _number(group.bias_steps, 1, sign=True),
            _number(group.spread_steps, 1),
        ]
        for group in groups
    ]
    return _table([f"{kind} steps-to-go", "frames", "error, steps", "bias", "spread"], rows)


def failures_line(failures: FailureMetrics) -> str:
    """Return what the model says of episodes that never succeeded; "" without any."""
    if failures.promised is None or failures.lowest_steps_to_go is None:
        return ""
    low, median, high = failures.lowest_steps_to_go
    return (
        f"{failures.num_episodes} failures: d came down to {median:.1f} steps (10 to 90 %: "
        f"{low:.1f} to {high:.1f}); it gave {failures.promised:.2f} on average to success in the "
        "steps that were left, where successes got "
        f"{_number(failures.promised_of_successes, 2)}."
    )


def _reliability(reliability: Reliability | None) -> str:
    if reliability is None:
        return ""
    coverage = reliability.coverage
    observed = dict(zip(coverage.nominal, coverage.observed, strict=True))
    parts = [f"{100 * observed[q]:.0f} % below the {100 * q:.0f} % one" for q in _LEVELS]
    return f"Of the true steps-to-go, among the predicted quantiles: {', '.join(parts)}."


def _spread(spread: SpreadMetrics | None) -> str:
    if spread is None:
        return ""
    rows = [
        [
            _number(group.spread_steps, 1),
            _number(group.mean_absolute_error_steps, 1),
            f"{group.num_frames:,}",
        ]
        for group in spread.groups
    ]
    words = (
        f"Spread against error: rank correlation {spread.rank_correlation:.2f}; among frames "
        f"that look equally far {spread.rank_correlation_equally_far:.2f}."
    )
    return f"{words}\n\n{_table(['spread, steps', 'error, steps', 'frames'], rows)}"


def _baselines(
    name: str, rows: Mapping[str, BaselineReport], comparison: BaselineComparison
) -> str:
    title = (
        f"### Compared on {name}\n\nTrained on the same {comparison.num_demonstrations} "
        f"demonstrations, {comparison.updates} updates, mean of {comparison.num_seeds} seeds."
    )
    body = [_baseline(baseline, report) for baseline, report in rows.items()]
    head = ["reward", "average precision", "gap, 95 %", "rank", "AUC against failures"]
    return f"{title}\n\n{_table([*head, 'precision', 'recall'], body)}"


def _baseline(name: str, report: BaselineReport) -> list[str]:
    gap = "-"
    if report.gap is not None:
        # The report has steps-to-go less the baseline; a reader wants what the baseline gains.
        low, high = report.gap.ci95
        gap = f"{_signed(-report.gap.mean)} [{_signed(-high)}, {_signed(-low)}]"
    return [
        name,
        _mean([seed.average_precision for seed in report.seeds]),
        gap,
        _mean([seed.rank_correlation for seed in report.seeds]),
        _mean([seed.success_auc for seed in report.seeds]),
        _mean_rate([seed.precision for seed in report.seeds]),
        _mean_rate([seed.recall for seed in report.seeds]),
    ]


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}"  # -0.0 + 0.0 is 0.0


def _mean(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    return f"{fmean(numbers):.3f}" if numbers else "-"


def _mean_rate(rates: Sequence[Rate]) -> str:
    """Return the mean rate of seeds: they see the same episodes, so n is not their sum."""
    return _mean([rate.value if rate.total else None for rate in rates])


def _rate(rate: Rate) -> str:
    return str(rate) if rate.total else "-"


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
