"""The section on what nearer calibrate found: can this reward be trusted, and is another better?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from nearer.detection import precision_of, recall_of
from nearer.errors import ConfigError
from nearer.intervals import Rate
from nearer.report.curves import Paint
from nearer.report.draw import (
    DATA,
    FRAME,
    INK,
    MUTED,
    STAGE_1,
    label_axes,
    note,
    picture,
    stage_two_colour,
)
from nearer.report.html import (
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
from nearer.report.read import Report, StageOne, number
from nearer.run import read_json

MEASURE = "nearer calibrate --checkpoint RUN --data DATASET --env ID"
_FILE = "calibration/calibration.json"
_ADVICE = f"measure again with {MEASURE}"
_GAUSSIAN = (2 / np.pi) ** 0.5  # mean absolute error of a normal distribution, in its own spreads
_LEAST_FRAMES = 20  # a mean over fewer jumps about

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
    """

    name: str
    labels: str
    precision: Rate
    recall: Rate
    by_distance: Sequence[Row]
    spread_groups: Sequence[Row]
    spread_rank: float
    spread_rank_equally_far: float
    slices: Sequence[Slice]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
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
    """A calibration.json of nearer calibrate."""

    measured: Sequence[Measured]
    rivals: Mapping[str, Sequence[Rival]]
    why_no_rivals: str


def trust(report: Report) -> Html:
    """Return what nearer calibrate found for each Stage-1 run."""
    parts: list[Html] = []
    for index, run in enumerate(report.stage_one):
        if len(report.stage_one) > 1:
            parts.append(tag("h3", text(run.facts.name), css="run"))
        parts.append(_trust_of(run, f"trust-{index}"))
    if not parts:
        parts.append(missing("No Stage-1 run here to measure with ", MEASURE, "."))
    return section("trust", "Can the reward be trusted?", *parts)


def read_trust(root: Path) -> Trust | None:
    """Return what nearer calibrate left in a run; None where it has not been asked.

    Raises:
        ConfigError: the file is none of nearer calibrate's.
    """
    path = root / _FILE
    if not path.exists():
        return None
    document = read_json(path, _ADVICE)
    try:
        return _trust_in(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} must be one nearer calibrate wrote, got {error}; {_ADVICE}"
        ) from error


def _trust_in(document: Mapping[str, Any]) -> Trust:
    compared = document["comparisons"]
    return Trust(
        measured=[_measured_in(name, one) for name, one in document["sources"].items()],
        rivals={
            name: [_rival_in(rival, one) for rival, one in rows.items()]
            for name, rows in compared.get("sources", {}).items()
        },
        why_no_rivals=str(compared.get("none", "")),
    )


def _measured_in(name: str, document: Mapping[str, Any]) -> Measured:
    spread: Mapping[str, Any] = document["spread"] or {"groups": []}
    return Measured(
        name=name,
        labels=str(document["labels"]),
        precision=precision_of(document["halves"]),
        recall=recall_of(document["halves"]),
        by_distance=[_row(one) for one in document["by_distance"]],
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


def _rival_in(name: str, document: Mapping[str, Any]) -> Rival:
    seeds = document["seeds"]
    gap = document.get("gap")

    def mean(metric: str) -> float:
        return float(np.mean([number(one[metric]) for one in seeds]))

    # The file has steps-to-go less the rival; a reader wants to see what the rival gains.
    return Rival(
        name=name,
        average_precision=[number(one["average_precision"]) for one in seeds],
        gap=None if gap is None else (-number(gap["ci95"][1]), -number(gap["ci95"][0])),
        rank=mean("rank_correlation"),
        told_apart=mean("success_auc"),
    )


def _row(document: Mapping[str, Any]) -> Row:
    return {name: number(value) for name, value in document.items()}


def _trust_of(run: StageOne, name: str) -> Html:
    found = read_trust(run.facts.root)
    if found is None:
        return missing("Not measured on further labelled episodes; do it with ", MEASURE, ".")
    colours = key(*(("━", _colour(one.name), one.name) for one in found.measured))
    figures = [
        panel(
            "Error by distance",
            picture(f"{name}-far", "Error by distance", paint_by_distance(found.measured)),
            "Mean absolute error of d (solid), and the spread the model gave itself (dashed).",
            colours,
        ),
        panel(
            "Is it unsure where it is wrong?",
            picture(f"{name}-sure", "Error against spread", paint_spread(found.measured)),
            _spread_words(found.measured),
            colours,
        ),
    ]
    if found.rivals:
        figures.append(_rivals_panel(found.rivals, f"{name}-rivals"))
    words = [paragraph(_about(one)) for one in found.measured]
    return join(grid(*figures), *words, _slices_table(found.measured), _rivals_table(found))


def _about(one: Measured) -> str:
    return (
        f"{one.name.capitalize()}: {one.labels}. With s chosen on one half of the episodes and "
        f"measured on the other: precision {percent(one.precision.value)} "
        f"({interval(one.precision)}), recall {percent(one.recall.value)} ({interval(one.recall)})."
    )


def _colour(source: str) -> str:
    if "demonstration" in source:
        return DATA
    return stage_two_colour(0) if "practised" in source else STAGE_1


def _spread_words(measured: Sequence[Measured]) -> str:
    told = "; ".join(
        f"{one.name} {decimal(one.spread_rank, 2)}, {decimal(one.spread_rank_equally_far, 2)} "
        "among frames that look equally far"
        for one in measured
    )
    return f"Fifths of the frames, by spread. Rank correlation: {told}."


def paint_by_distance(measured: Sequence[Measured]) -> Paint:
    """Mean absolute error, and spread, against the true distance."""

    def paint(axes: Axes) -> None:
        for one in measured:
            rows = [row for row in one.by_distance if row["frames"] >= _LEAST_FRAMES]
            far = [(row["from_steps"] + row["to_steps"]) / 2 for row in rows]
            colour = _colour(one.name)
            error = [row["mean_absolute_error_steps"] for row in rows]
            axes.plot(far, error, color=colour, marker="o", markersize=3.5)
            spread = [row["spread_steps"] for row in rows]
            axes.plot(far, spread, color=colour, linestyle=(0, (4, 2)))
        axes.set(xlim=(0, None), ylim=(0, None))
        label_axes(axes, x="true steps left", y="control steps")

    return paint


def paint_spread(measured: Sequence[Measured]) -> Paint:
    """Mean absolute error against spread, in groups of equally many frames."""

    def paint(axes: Axes) -> None:
        widest = max(
            (row["spread_steps"] for one in measured for row in one.spread_groups), default=1
        )
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
            spread = [row["spread_steps"] for row in one.spread_groups]
            error = [row["mean_absolute_error_steps"] for row in one.spread_groups]
            axes.plot(spread, error, color=_colour(one.name), marker="o", markersize=3.5)
        axes.set(xlim=(0, None), ylim=(0, None))
        label_axes(axes, x="spread of p(k), control steps", y="mean absolute error")

    return paint


def paint_rivals(rivals: Mapping[str, Sequence[Rival]]) -> Paint:
    """Average precision of every answer, a dot a training seed."""

    def paint(axes: Axes) -> None:
        names = [one.name for one in next(iter(rivals.values()))]
        for source, rows in rivals.items():
            for row in rows:
                at = [len(names) - 1 - names.index(row.name)] * len(row.average_precision)
                axes.plot(row.average_precision, at, "o", color=_colour(source), markersize=5)
        for row, name in enumerate(reversed(names)):
            note(axes, 0.02, row, name, color=INK, va="bottom", xytext=(0, 5))
        axes.set(xlim=(0, 1.02), ylim=(-0.5, len(names) - 0.2), yticks=[])
        label_axes(axes, x="average precision, frame by frame", y="")

    return paint


def _rivals_panel(rivals: Mapping[str, Sequence[Rival]], name: str) -> Html:
    return panel(
        "Against other rewards",
        picture(name, "Average precision of rewards", paint_rivals(rivals)),
        "Of the same size, trained on the same facts of the same demonstrations; a dot a seed.",
        key(*(("●", _colour(source), source) for source in rivals)),
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
    if not found.rivals:
        return paragraph(f"No comparison with other rewards: {found.why_no_rivals}.", "missing")
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
        for source, rivals in found.rivals.items()
        for one in rivals
    ]
    return table(head, rows)
