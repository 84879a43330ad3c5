"""Figures of training: learning curves and audits of Stage 2, losses of Stage 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from nearer.core.arrays import Array
from nearer.core.intervals import Rate
from nearer.evaluation.audit import Audit, pooled
from nearer.evaluation.success import Evaluation
from nearer.reporting.html.colours import FRAME, STAGE_1, stage_two_colour
from nearer.reporting.html.run_data import StageOne, StageTwo
from nearer.reporting.html.svg import Paint, label_axes

AUDIT_WINDOW = 3
"""Audits that are pooled into one point."""

_MAX_BLOCKS = 40  # points of a curve over practice; with more, noise hides the trend
_EPISODES = "practice/iteration_episodes"
_ENV_STEPS = "practice/iteration_env_steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateOverPractice:
    """A rate pooled over windows of practice.

    Attributes:
        episodes: practised up to the middle of each window.
    """

    episodes: Float[Array, "windows"]
    rates: tuple[Rate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An evaluation at its place on the axis of practice.

    Attributes:
        episodes: practised by the policy that was evaluated.
    """

    evaluation: Evaluation
    episodes: float
    colour: str


def audited(run: StageTwo, rate: Callable[[Audit], Rate]) -> RateOverPractice:
    """Return a rate of the audits, AUDIT_WINDOW at a time; windows without trials are left out."""
    starts = range(0, len(run.audits), AUDIT_WINDOW)
    windows = [run.audits[start : start + AUDIT_WINDOW] for start in starts]
    points: list[tuple[float, Rate]] = []
    for window in windows:
        window_rate = rate(pooled(window))
        middle = float(np.mean([run.episodes_at(audit.iteration + 1) for audit in window]))
        if window_rate.total:
            points.append((middle, window_rate))
    return RateOverPractice(
        episodes=np.array([middle for middle, _ in points], dtype=np.float64),
        rates=tuple(window_rate for _, window_rate in points),
    )


def paint_success(runs: Sequence[StageTwo], before: Sequence[StageOne]) -> Paint:
    """Paint audited, detected and evaluated success against episodes practised."""

    def paint(axes: Axes) -> None:
        for run in runs:
            colour = stage_two_colour(run.index)
            at, detected = _blocks(run, "practice/detected_success", _EPISODES)
            axes.plot(at, detected, color=colour, alpha=0.4, linewidth=1.4)
            _draw_rates(axes, audited(run, lambda audit: audit.success), colour)
        for mark in _marks(runs, before):
            rate = mark.evaluation.success
            window = RateOverPractice(episodes=np.array([mark.episodes]), rates=(rate,))
            _draw_rates(axes, window, mark.colour, marker="D", size=7)
        axes.set_ylim(0, 1.06)
        axes.set_yticks(np.linspace(0, 1, 5))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _practice_axis(axes, "success rate")

    return paint


def paint_length(runs: Sequence[StageTwo], before: Sequence[StageOne]) -> Paint:
    """Paint episode length against episodes practised, with the evaluated mean lengths."""

    def paint(axes: Axes) -> None:
        for run in runs:
            colour = stage_two_colour(run.index)
            axes.plot(*_blocks(run, "practice/episode_length", _EPISODES), color=colour)
        for mark in _marks(runs, before):
            length = mark.evaluation.mean_length
            axes.plot([mark.episodes], [length], "D", color=mark.colour, markersize=7)
        # From 0, with room for the marks: a margin of the data's own range would cut them.
        axes.set_ylim(0, max(1.0, 1.1 * axes.dataLim.y1))
        _practice_axis(axes, "episode length, control steps")

    return paint


def paint_progress(runs: Sequence[StageTwo]) -> Paint:
    """Paint predicted progress and mean return against episodes practised."""

    def paint(axes: Axes) -> None:
        for run in runs:
            colour = stage_two_colour(run.index)
            at, progress = _blocks(run, "practice/progress_steps", _EPISODES)
            axes.plot(at, progress, color=colour)
            at_return, returns = _blocks(run, "practice/return", _ENV_STEPS)
            axes.plot(at_return, returns, color=colour, linestyle=(0, (4, 2)), linewidth=1.5)
        axes.margins(y=0.1)
        axes.set_ylim(bottom=min(0.0, axes.dataLim.y0))
        _practice_axis(axes, "control steps")

    return paint


def paint_audits(runs: Sequence[StageTwo]) -> Paint:
    """Paint audited precision and recall; the axis starts at a round fraction below all of them."""

    def paint(axes: Axes) -> None:
        lowest = 0.8
        for run in runs:
            colour = stage_two_colour(run.index)
            precision = audited(run, lambda audit: audit.precision)
            recall = audited(run, lambda audit: audit.recall)
            apart = 0.008 * np.nan_to_num(run.episodes_at(None))
            _draw_rates(axes, precision, colour, shift=-apart)
            _draw_rates(axes, recall, colour, shift=apart, is_open=True)
            lowest = min([lowest, *(rate.interval[0] for rate in precision.rates + recall.rates)])
        axes.set_ylim(np.floor(lowest * 5) / 5, 1.01)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _practice_axis(axes, "precision and recall")

    return paint


def paint_loss(run: StageOne, name: str, *, selects: bool) -> Paint:
    """Paint a loss of Stage 1, training and held-out, with the checkpoint selected by it.

    Args:
        run: the Stage-1 run.
        name: of the metric, such as loss_bc.
        selects: whether a checkpoint is selected by this loss.
    """

    def paint(axes: Axes) -> None:
        updates = run.series("step")
        held_out = run.series(f"sft/val_{name}")
        axes.plot(updates, run.series(f"sft/{name}"), color=FRAME, linewidth=1.4)
        axes.plot(updates, held_out, color=STAGE_1)
        checkpoint = run.selected(name) if selects else None
        if checkpoint is not None:
            axes.plot(checkpoint.update, checkpoint.loss, "o", color=STAGE_1, markersize=8)
            axes.axvline(checkpoint.update, color=STAGE_1, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.margins(y=0.1)
        label_axes(axes, x="updates", y="negative log likelihood, nats")
        _thousands(axes)

    return paint


def _blocks(
    run: StageTwo, key: str, weight_key: str
) -> tuple[Float[Array, "blocks"], Float[Array, "blocks"]]:
    """Return episodes practised and the weighted mean of a metric, by blocks of iterations."""
    at, values, weights = map(run.series, ("practice/episodes", key, weight_key))
    rows = np.flatnonzero(np.isfinite(at) & np.isfinite(values) & (weights > 0))
    blocks = np.array_split(rows, min(len(rows), _MAX_BLOCKS)) if len(rows) else []
    means = [float(np.average(values[block], weights=weights[block])) for block in blocks]
    return np.array([at[block].mean() for block in blocks], dtype=np.float64), np.array(means)


def _marks(runs: Sequence[StageTwo], before: Sequence[StageOne]) -> list[Mark]:
    """Return every evaluation at its place on the axis of practice."""
    starts = [
        Mark(
            evaluation=run.evaluated.evaluation,
            episodes=0.0,
            colour=STAGE_1,
        )
        for run in before
        if run.evaluated
    ]
    ends = [
        Mark(
            evaluation=run.evaluated.evaluation,
            episodes=run.episodes_at(run.kept_step),
            colour=stage_two_colour(run.index),
        )
        for run in runs
        if run.evaluated
    ]
    return starts + ends


def _draw_rates(
    axes: Axes,
    measured: RateOverPractice,
    colour: str,
    *,
    marker: str = "o",
    size: float = 5,
    shift: float = 0.0,
    is_open: bool = False,
) -> None:
    if not measured.rates:
        return
    low, high = np.array([rate.interval for rate in measured.rates]).T
    values = [rate.value for rate in measured.rates]
    at = measured.episodes + shift
    axes.vlines(at, low, high, color=colour, linewidth=1.6, alpha=0.65)
    style: dict[str, Any] = {"color": colour, "markersize": size, "clip_on": False}
    if is_open:
        style |= {"markerfacecolor": "white", "markeredgewidth": 1.4}
    axes.plot(at, values, marker, **style)


def _practice_axis(axes: Axes, y: str) -> None:
    label_axes(axes, x="episodes practised", y=y)
    axes.set_xlim(left=-0.02 * axes.get_xlim()[1])
    _thousands(axes)


def _thousands(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_grouped))


def _grouped(value: float, _: int) -> str:
    return f"{value:,.0f}"
