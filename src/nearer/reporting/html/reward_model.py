"""The section on what nearer eval-reward measured of a reward model, beside baselines."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nearer.core.intervals import Rate
from nearer.evaluation.threshold import ThresholdChoice
from nearer.reporting.html.curves import Paint
from nearer.reporting.html.detector_figures import paint_precision_recall, source_colour
from nearer.reporting.html.markup import (
    Html,
    decimal,
    grid,
    interval,
    join,
    key,
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
from nearer.reporting.html.reward_data import MEASURE, Baseline, Measured, Trust, read_trust
from nearer.reporting.html.run_data import Report, StageOne
from nearer.reporting.html.svg import FRAME, INK, MUTED, label_axes, note, picture

_GAUSSIAN = (2 / np.pi) ** 0.5  # mean absolute error of a normal distribution, in its own spreads
_LEAST_FRAMES = 20  # a mean over fewer jumps about


def trust(report: Report) -> Html:
    """Return what nearer eval-reward found for each Stage-1 run."""
    parts: list[Html] = []
    for index, run in enumerate(report.stage_one):
        if len(report.stage_one) > 1:
            parts.append(tag("h3", text(run.facts.name), css="run"))
        parts.append(_trust_of(run, f"trust-{index}"))
    if not parts:
        parts.append(missing("No Stage-1 run here to measure with ", MEASURE, "."))
    return section("trust", "Can the reward be trusted?", *parts)


def _trust_of(run: StageOne, name: str) -> Html:
    found = read_trust(run.facts.root)
    if found is None:
        return missing("Not measured on further labelled episodes; do it with ", MEASURE, ".")
    figures = _figures(found, name)
    words = [paragraph(_recommended(found)), *(paragraph(_about(one)) for one in found.measured)]
    return join(grid(*figures), *words, _slices_table(found.measured), _rivals_table(found))


def _figures(found: Trust, name: str) -> list[Html]:
    colours = key(*(("━", source_colour(one.name), one.name) for one in found.measured))
    far = paint_by_distance(found.measured, found.unit)
    hopeful = paint_by_predicted(found.measured, found.unit)
    unsure = paint_spread(found.measured, found.unit)
    figures = [
        panel(
            "Error by distance",
            picture(f"{name}-far", "Error by distance", far),
            "Mean absolute error of d (solid), and the spread the model gave itself (dashed).",
            colours,
        ),
        panel(
            "Is it too hopeful?",
            picture(f"{name}-hopeful", "Bias by predicted distance", hopeful),
            "How many steps d promises too few (below 0) or too many, by what it says.",
            colours,
        ),
        panel(
            "Reliability",
            picture(f"{name}-reliable", "Reliability", paint_coverage(found.measured)),
            "Of a reliable model a share p of the truth lies below the predicted quantile p.",
            colours,
        ),
        panel(
            "Is it unsure where it is wrong?",
            picture(f"{name}-sure", "Error against spread", unsure),
            _spread_words(found.measured),
            colours,
        ),
    ]
    if found.detector:
        figures.append(_trade_panel(found.detector, found.unit, f"{name}-trade", colours))
    if found.baselines:
        figures.append(_rivals_panel(found.baselines, f"{name}-rivals"))
    return figures


def _trade_panel(detector: ThresholdChoice, unit: str, name: str, colours: Html) -> Html:
    return panel(
        "Precision against recall",
        picture(name, "Precision against recall", paint_precision_recall(detector)),
        f"Dots: s = {detector.threshold_steps:g} {unit}.",
        colours,
    )


def _recommended(found: Trust) -> str:
    if found.detector is None:
        return "No threshold is recommended: no labels are the truth."
    chosen = found.detector
    return f"Recommended s = {chosen.threshold_steps:g} {found.unit}: {chosen.rule}."


def _about(one: Measured) -> str:
    words = (
        f"{one.name.capitalize()}: {one.labels}. With s chosen on one half of the episodes and "
        f"measured on the other: precision {percent(one.precision.value)} "
        f"({interval(one.precision)}), recall {percent(one.recall.value)} ({interval(one.recall)})."
    )
    return f"{words} {one.failures}".strip()


def _spread_words(measured: Sequence[Measured]) -> str:
    told = "; ".join(
        f"{one.name} {decimal(one.spread_rank, 2)}, {decimal(one.spread_rank_equally_far, 2)} "
        "among frames that look equally far"
        for one in measured
    )
    return f"Fifths of the frames, by spread. Rank correlation: {told}."


def paint_by_distance(measured: Sequence[Measured], unit: str) -> Paint:
    """Mean absolute error, and spread, against the true distance."""

    def paint(axes: Axes) -> None:
        for one in measured:
            rows = [row for row in one.by_distance if row.num_frames >= _LEAST_FRAMES]
            far = [(row.from_steps + row.to_steps) / 2 for row in rows]
            colour = source_colour(one.name)
            error = [row.mean_absolute_error_steps for row in rows]
            axes.plot(far, error, color=colour, marker="o", markersize=3.5)
            spread = [row.spread_steps for row in rows]
            axes.plot(far, spread, color=colour, linestyle=(0, (4, 2)))
        axes.set(xlim=(0, None), ylim=(0, None))
        label_axes(axes, x="true steps left", y=unit)

    return paint


def paint_by_predicted(measured: Sequence[Measured], unit: str) -> Paint:
    """Bias of d against d itself: a calibrated model has none anywhere."""

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=FRAME, linewidth=1.2, linestyle=(0, (4, 3)))
        for one in measured:
            rows = [row for row in one.by_predicted if row.num_frames >= _LEAST_FRAMES]
            said = [(row.from_steps + row.to_steps) / 2 for row in rows]
            bias = [row.bias_steps for row in rows]
            axes.plot(said, bias, color=source_colour(one.name), marker="o", markersize=3.5)
        axes.set(xlim=(0, None))
        label_axes(axes, x="predicted d", y=f"d less the truth, {unit}")

    return paint


def paint_coverage(measured: Sequence[Measured]) -> Paint:
    """Observed share of the truth below each predicted quantile, source by source."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FRAME, linewidth=1.2, linestyle=(0, (4, 3)))
        for one in measured:
            colour = source_colour(one.name)
            axes.plot(one.nominal, one.observed, color=colour, marker="o", markersize=3.5)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        label_axes(axes, x="predicted quantile", y="share of the truth below it")

    return paint


def paint_spread(measured: Sequence[Measured], unit: str) -> Paint:
    """Mean absolute error against spread, in groups of equally many frames."""

    def paint(axes: Axes) -> None:
        widest = max((row.spread_steps for one in measured for row in one.spread_groups), default=1)
        axes.plot(
            [0, widest], [0, _GAUSSIAN * widest], color=FRAME, linewidth=1.2, linestyle=(0, (4, 3))
        )
        note(
            axes,
            widest,
            _GAUSSIAN * widest,
            "as a bell curve",
            color=MUTED,
            ha="right",
            va="top",
            xytext=(-4, -8),
        )
        for one in measured:
            spread = [row.spread_steps for row in one.spread_groups]
            error = [row.mean_absolute_error_steps for row in one.spread_groups]
            axes.plot(spread, error, color=source_colour(one.name), marker="o", markersize=3.5)
        axes.set(xlim=(0, None), ylim=(0, None))
        label_axes(axes, x=f"spread of p(k), {unit}", y="mean absolute error")

    return paint


def paint_rivals(baselines: Mapping[str, Sequence[Baseline]]) -> Paint:
    """Average precision of every answer, a dot a training seed."""

    def paint(axes: Axes) -> None:
        names = [one.name for one in next(iter(baselines.values()))]
        for source, rows in baselines.items():
            for row in rows:
                at = [len(names) - 1 - names.index(row.name)] * len(row.average_precision)
                axes.plot(row.average_precision, at, "o", color=source_colour(source), markersize=5)
        for row, name in enumerate(reversed(names)):
            note(axes, 0.02, row, name, color=INK, va="bottom", xytext=(0, 5))
        axes.set(xlim=(0, 1.02), ylim=(-0.5, len(names) - 0.2), yticks=[])
        label_axes(axes, x="average precision, frame by frame", y="")

    return paint


def _rivals_panel(baselines: Mapping[str, Sequence[Baseline]], name: str) -> Html:
    return panel(
        "Against other rewards",
        picture(name, "Average precision of rewards", paint_rivals(baselines)),
        "Of the same size, trained on the same facts of the same demonstrations; a dot a seed.",
        key(*(("●", source_colour(source), source) for source in baselines)),
    )


def _slices_table(measured: Sequence[Measured]) -> Html:
    head = (
        "Episodes",
        "n",
        "Error, steps",
        "Bias",
        "Rank correlation",
        "Precision at s, 95 % interval",
        "Recall at s, 95 % interval",
    )
    rows = [
        [
            text(f"{source.name}: {one.name}"),
            text(whole(one.episodes)),
            text(decimal(one.error_steps)),
            text(decimal(one.bias_steps)),
            text(decimal(one.rank, 2)),
            _rate(one.precision),
            _rate(one.recall),
        ]
        for source in measured
        for one in source.slices
    ]
    return table(head, rows)


def _rate(rate: Rate) -> Html:
    return rate_cell(rate) if rate.total else text("–")


def _rivals_table(found: Trust) -> Html:
    if not found.baselines:
        return paragraph(f"No comparison with other rewards: {found.why_no_baselines}.", "missing")
    head = (
        "Answer",
        "Judged on",
        "Average precision",
        "Less that of steps-to-go, 95 %",
        "Rank correlation",
        "Told from failures",
    )
    rows = [
        [
            text(one.name),
            text(source),
            text(decimal(float(np.mean(one.average_precision)), 3)),
            text(f"{one.gap[0]:+.3f} to {one.gap[1]:+.3f}" if one.gap else "–"),
            text(decimal(one.rank, 2)),
            text(decimal(one.told_apart, 3)),
        ]
        for source, baselines in found.baselines.items()
        for one in baselines
    ]
    return table(head, rows)
