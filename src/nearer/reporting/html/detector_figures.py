"""Figures of the reward model: predicted steps-to-go, and the success detector based on them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.ticker import FuncFormatter, PercentFormatter

from nearer.evaluation.calibration import PredictionExample
from nearer.evaluation.reliability import Coverage, Reliability
from nearer.evaluation.threshold import DetectorCurve, ThresholdChoice
from nearer.reporting.html.colours import DATA, FRAME, INK, STAGE_1, stage_two_colour
from nearer.reporting.html.svg import Paint, label_axes

_SHADES = LinearSegmentedColormap.from_list("nearer", ["#9ecae800", "#9ecae8", STAGE_1, "#06304d"])
"""From transparent to dark; report.css inverts lightness in the dark scheme."""
_MIN_PROBABILITY = 0.002  # bins that stay below it do not extend the axis


def source_colour(source: str) -> str:
    """Return the colour of a source of labelled episodes: grey for data, else by policy."""
    if "demonstration" in source:
        return DATA
    return stage_two_colour(0) if "practised" in source else STAGE_1


def paint_predicted(reliability: Reliability) -> Paint:
    """Paint predicted against true steps-to-go on held-out frames: mean and the middle 80 %."""

    def paint(axes: Axes) -> None:
        groups = reliability.by_true_steps
        true = [group.true_steps for group in groups]
        low = [group.predicted_p10 for group in groups]
        high = [group.predicted_p90 for group in groups]
        mean = [group.predicted_mean for group in groups]
        end = max([1.0, *true])
        axes.plot([0, end], [0, end], color=FRAME, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.fill_between(true, low, high, color=STAGE_1, alpha=0.15, linewidth=0)
        axes.plot(true, mean, color=STAGE_1, marker="o", markersize=3.5)
        axes.set(xlim=(0, None), ylim=(0, None))
        label_axes(axes, x="true steps-to-go, control steps", y="predicted d, control steps")

    return paint


def paint_calibration(coverage: Coverage) -> Paint:
    """Paint the fraction of true values below each predicted quantile."""

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FRAME, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.plot(coverage.nominal, coverage.observed, color=STAGE_1, marker="o", markersize=3.5)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        label_axes(axes, x="predicted quantile", y="fraction of true values below it")

    return paint


def paint_thresholds(result: ThresholdChoice) -> Paint:
    """Paint precision (solid) and recall (dashed) against the threshold s, a colour a source."""

    def paint(axes: Axes) -> None:
        for source, curve in result.curves.items():
            colour = source_colour(source)
            axes.plot(curve.thresholds_steps, _precision(curve), color=colour)
            axes.plot(curve.thresholds_steps, curve.recall, color=colour, linestyle=(0, (4, 2)))
        axes.axvline(result.threshold_steps, color=INK, linewidth=1)
        axes.set_xscale("log")
        axes.set_ylim(0, 1.04)
        axes.xaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        label_axes(axes, x="threshold s, control steps", y="precision and recall")

    return paint


def paint_precision_recall(result: ThresholdChoice) -> Paint:
    """Paint precision against recall, a colour a source, with the chosen threshold marked."""

    def paint(axes: Axes) -> None:
        for source, curve in result.curves.items():
            axes.plot(curve.recall, _precision(curve), color=source_colour(source))
        for source, detector in result.at_threshold.items():
            colour = source_colour(source)
            at = (detector.counts.recall.value, detector.counts.precision.value)
            axes.plot(*at, "o", color=colour, markersize=8, clip_on=False)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.04))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        label_axes(axes, x="recall", y="precision")

    return paint


def paint_distribution(example: PredictionExample) -> Paint:
    """Paint p(k | o_t, g) and its mean d, observation by observation."""

    def paint(axes: Axes) -> None:
        edges, probabilities = np.array(example.edges), np.array(example.probabilities)
        width = edges[1] - edges[0] if len(edges) > 1 else 1.0
        shown = (
            int(np.flatnonzero(probabilities.max(axis=0) >= _MIN_PROBABILITY).max(initial=0)) + 1
        )
        # Not the maximum: one confident step would make all others pale.
        darkest = float(np.quantile(probabilities.max(axis=1), 0.9))
        axes.imshow(
            probabilities[:, :shown].T,
            aspect="auto",
            origin="lower",
            cmap=_SHADES,
            norm=PowerNorm(0.5, vmin=0, vmax=max(darkest, _MIN_PROBABILITY)),
            extent=(
                -0.5,
                len(probabilities) - 0.5,
                edges[0] - width / 2,
                edges[shown - 1] + width / 2,
            ),
            interpolation="none",
        )
        axes.plot(np.arange(len(probabilities)), example.steps_to_go, color=INK, linewidth=1.4)
        axes.grid(visible=False)
        label_axes(axes, x="step", y="steps-to-go")

    return paint


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


def _precision(curve: DetectorCurve) -> list[float]:
    """Return the precision where the detector fired, nan elsewhere."""
    return [
        value if fired else np.nan
        for value, fired in zip(curve.precision, curve.num_detections, strict=True)
    ]
