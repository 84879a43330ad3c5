"""The section on the reward model: metrics of nearer eval-reward, and baselines."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nearer.evaluation.detector_metrics import DetectorMetrics
from nearer.evaluation.reward_report import (
    BaselineComparison,
    BaselineReport,
    RewardReport,
    SourceReport,
)
from nearer.evaluation.threshold import ThresholdChoice
from nearer.reporting.html.colours import FRAME, INK
from nearer.reporting.html.detector_figures import paint_precision_recall, source_colour
from nearer.reporting.html.markup import (
    Html,
    decimal,
    grid,
    interval,
    join,
    legend,
    missing,
    panel,
    paragraph,
    percent,
    rate_cell,
    section,
    table,
    tag,
    text,
    whole,
)
from nearer.reporting.html.paths import shown_text
from nearer.reporting.html.run_data import Report, StageOne
from nearer.reporting.html.suggested_commands import EVAL_REWARD
from nearer.reporting.html.svg import PANEL, Paint, figure, label_axes
from nearer.reporting.reward_table import failures_line
from nearer.runs.metrics import number

_GAUSSIAN = (2 / np.pi) ** 0.5  # mean absolute over standard deviation of a normal distribution
_DOTS: dict[str, Any] = {"marker": "o", "markersize": 3.5}
_CHARACTER_PX = 6.4  # width of a character of a tick label
_MIN_FRAMES = 20  # of a point; means over fewer are too noisy

Sources = Mapping[str, SourceReport]


def reward_quality(report: Report) -> Html:
    """Return the metrics of the reward model of each Stage-1 run."""
    parts: list[Html] = []
    for index, run in enumerate(report.stage_one):
        if len(report.stage_one) > 1:
            parts.append(tag("h3", text(run.name), css="run"))
        parts.append(_metrics_of(run, f"reward-model-{index}"))
    if not parts:
        parts.append(missing("No Stage-1 run on this page; evaluate one with ", EVAL_REWARD, "."))
    return section("reward-model", "Reward model on labelled episodes", *parts)


def _metrics_of(run: StageOne, name: str) -> Html:
    report = run.reward_report
    if report is None:
        return missing("The reward model is not evaluated yet; evaluate it with ", EVAL_REWARD, ".")
    words = [_recommended(report), *(_about(*source) for source in report.sources.items())]
    return join(
        grid(*_figures(report, name)),
        *map(paragraph, words),
        _slices_table(report.sources),
        _baselines_table(report, run.folders),
    )


def _figures(report: RewardReport, name: str) -> list[Html]:
    sources, unit = report.sources, report.unit
    lines = [("━", source_colour(source), source) for source in sources]
    colours = legend(*lines)
    figures = [
        panel(
            "Error by true steps-to-go",
            figure(f"{name}-error", "Error by true steps-to-go", paint_by_distance(sources, unit)),
            "Mean absolute error of d (solid) and standard deviation of p(k) (dashed).",
            colours,
        ),
        panel(
            "Bias by predicted steps-to-go",
            figure(f"{name}-bias", "Bias by predicted steps-to-go", paint_bias(sources, unit)),
            "Mean of d minus true steps-to-go; below 0 the model is too optimistic.",
            colours,
        ),
        panel(
            "Calibration of the distribution",
            figure(f"{name}-calibration", "Calibration", paint_coverage(sources)),
            "Of a calibrated model a fraction q of the true values lies below the predicted "
            "q-quantile (the diagonal).",
            legend(*lines, ("╍", FRAME, "calibrated")),
        ),
        panel(
            "Error against predicted spread",
            figure(f"{name}-spread", "Error against spread", paint_spread(sources, unit)),
            _spread_words(sources),
            legend(*lines, ("╍", FRAME, "normal distribution")),
        ),
    ]
    if report.recommended:
        figures.append(_precision_panel(report.recommended, unit, f"{name}-precision", colours))
    if report.baselines:
        figures.append(_baselines_panel(report.baselines, f"{name}-baselines"))
    return figures


def _precision_panel(detector: ThresholdChoice, unit: str, name: str, colours: Html) -> Html:
    return panel(
        "Precision against recall",
        figure(name, "Precision against recall", paint_precision_recall(detector)),
        f"Dots mark s = {detector.threshold_steps:g} {unit}.",
        colours,
    )


def _recommended(report: RewardReport) -> str:
    if report.recommended is None:
        return "No threshold is recommended, because no episodes have ground-truth labels."
    threshold = f"{report.recommended.threshold_steps:g} {report.unit}"
    return f"Recommended threshold s = {threshold}. How it was chosen: {report.recommended.rule}."


def _about(name: str, source: SourceReport) -> str:
    precision, recall = source.detector.precision, source.detector.recall
    words = (
        f"{name.capitalize()}: {source.labels}. With s chosen on one half of the episodes and "
        f"measured on the other: precision {percent(precision.value)} ({interval(precision)}), "
        f"recall {percent(recall.value)} ({interval(recall)})."
    )
    return f"{words} {failures_line(source.reward.failures)}".strip()


def _spread_words(sources: Sources) -> str:
    correlations = "; ".join(
        f"{name} {decimal(spread.rank_correlation, 2)} "
        f"({decimal(spread.rank_correlation_equally_far, 2)} among frames of similar d)"
        for name, source in sources.items()
        if (spread := source.reward.spread)
    )
    return (
        "Frames in five groups of equal size by the standard deviation of p(k). Rank correlation "
        f"of spread and error: {correlations or '–'}."
    )


def paint_by_distance(sources: Sources, unit: str) -> Paint:
    """Paint mean absolute error of d and spread of p(k) against true steps-to-go."""

    def paint(axes: Axes) -> None:
        for name, source in sources.items():
            rows = [row for row in source.reward.by_distance if row.num_frames >= _MIN_FRAMES]
            middles = [(row.from_steps + row.to_steps) / 2 for row in rows]
            colour = source_colour(name)
            error = [row.mean_absolute_error_steps for row in rows]
            axes.plot(middles, error, color=colour, **_DOTS)
            spread = [row.spread_steps for row in rows]
            axes.plot(middles, spread, color=colour, linestyle=(0, (4, 2)))
        axes.set(xlim=(0, None), ylim=(0, None))
        label_axes(axes, x=f"true steps-to-go, {unit}", y=f"error and spread, {unit}")

    return paint


def paint_bias(sources: Sources, unit: str) -> Paint:
    """Paint the mean error of d against d; a calibrated model has none at any d."""

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=FRAME, linewidth=1.2, linestyle=(0, (4, 3)))
        for name, source in sources.items():
            rows = [row for row in source.reward.by_predicted if row.num_frames >= _MIN_FRAMES]
            middles = [(row.from_steps + row.to_steps) / 2 for row in rows]
            bias = [row.bias_steps for row in rows]
            axes.plot(middles, bias, color=source_colour(name), **_DOTS)
        axes.set(xlim=(0, None))
        label_axes(axes, x=f"predicted d, {unit}", y=f"d − true steps-to-go, {unit}")

    return paint


def paint_coverage(sources: Sources) -> Paint:
    """Paint the fraction of true values below each predicted quantile, a colour a source."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FRAME, linewidth=1.2, linestyle=(0, (4, 3)))
        for name, source in sources.items():
            if source.reward.reliability:
                coverage = source.reward.reliability.coverage
                colour = source_colour(name)
                axes.plot(coverage.nominal, coverage.observed, color=colour, **_DOTS)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        label_axes(axes, x="predicted quantile", y="fraction of true values below it")

    return paint


def paint_spread(sources: Sources, unit: str) -> Paint:
    """Paint mean absolute error against spread of p(k), in groups of equally many frames."""
    groups = {
        name: source.reward.spread.groups
        for name, source in sources.items()
        if source.reward.spread
    }

    def paint(axes: Axes) -> None:
        widest = max((row.spread_steps for rows in groups.values() for row in rows), default=1)
        end = _GAUSSIAN * widest
        axes.plot([0, widest], [0, end], color=FRAME, linewidth=1.2, linestyle=(0, (4, 3)))
        for name, rows in groups.items():
            spread = [row.spread_steps for row in rows]
            error = [row.mean_absolute_error_steps for row in rows]
            axes.plot(spread, error, color=source_colour(name), **_DOTS)
        axes.set(xlim=(0, None), ylim=(0, None))
        label_axes(axes, x=f"spread of p(k), {unit}", y=f"mean absolute error, {unit}")

    return paint


def paint_baselines(comparison: BaselineComparison) -> Paint:
    """Paint the average precision of every reward model, a dot a training seed."""

    def paint(axes: Axes) -> None:
        names = list(next(iter(comparison.sources.values())))
        for source, baselines in comparison.sources.items():
            for name, baseline in baselines.items():
                values = [number(seed.average_precision) for seed in baseline.seeds]
                at = [len(names) - 1 - names.index(name)] * len(values)
                axes.plot(values, at, "o", color=source_colour(source), markersize=5)
        axes.set_yticks(range(len(names)), reversed(names), color=INK)
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1.02), ylim=(-0.5, len(names) - 0.5))
        label_axes(axes, x="average precision over frames", y="")

    return paint


def _baselines_panel(comparison: BaselineComparison, name: str) -> Html:
    longest = max(len(each) for baselines in comparison.sources.values() for each in baselines)
    left = min(0.6, (_CHARACTER_PX * longest + 12) / PANEL[0])
    title = "Average precision of reward models"
    return panel(
        "Baselines",
        figure(name, title, paint_baselines(comparison), margins=(left, 0.97, 0.17, 0.97)),
        "Reward models of the same size, trained on the same inputs and demonstrations; a dot a "
        "training seed.",
        legend(*(("●", source_colour(source), source) for source in comparison.sources)),
    )


def _slices_table(sources: Sources) -> Html:
    head = (
        "Episodes",
        "n",
        "Mean absolute error of d",
        "Bias of d",
        "Rank correlation",
        "Precision at s, 95 % interval",
        "Recall at s, 95 % interval",
    )
    rows = [
        [
            text(f"{source_name}: {name}"),
            text(whole(metrics.num_episodes)),
            text(decimal(number(metrics.mean_absolute_error_steps))),
            text(decimal(number(metrics.bias_steps))),
            text(decimal(number(metrics.rank_correlation), 2)),
            rate_cell(metrics.precision),
            rate_cell(metrics.recall),
        ]
        for source_name, source in sources.items()
        for name, metrics in source.slices.items()
    ]
    return table(head, rows)


def _baselines_table(report: RewardReport, folders: Sequence[Path]) -> Html:
    if report.baselines is None:
        why = shown_text(report.why_no_baselines, folders)
        return paragraph(f"No comparison with baselines: {why}.", "missing")
    head = (
        "Reward model",
        "Evaluated on",
        "Average precision",
        "Difference to steps-to-go, 95 % interval",
        "Rank correlation",
        "AUC, success against failure",
    )
    rows = [
        _baseline_row(name, source, baseline)
        for source, baselines in report.baselines.sources.items()
        for name, baseline in baselines.items()
    ]
    return table(head, rows)


def _baseline_row(name: str, source: str, baseline: BaselineReport) -> list[Html]:
    def mean(value_of: Callable[[DetectorMetrics], float | None]) -> float:
        return float(np.mean([number(value_of(seed)) for seed in baseline.seeds]))

    # The report has steps-to-go minus the baseline; the page shows what the baseline gains.
    gap = baseline.gap
    return [
        text(name),
        text(source),
        text(decimal(mean(lambda seed: seed.average_precision), 3)),
        text(f"{-gap.ci95[1]:+.3f} to {-gap.ci95[0]:+.3f}" if gap else "–"),
        text(decimal(mean(lambda seed: seed.rank_correlation), 2)),
        text(decimal(mean(lambda seed: seed.success_auc), 3)),
    ]
