"""Figures of success against the fraction of the demonstrations, beside the paper's results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from nearer.core.intervals import Rate
from nearer.reporting.html.colours import STAGE_1, STAGE_2
from nearer.reporting.html.svg import figure, label_axes, svg_file

_SIZE = (560, 330)
_STAGES = {1: ("Stage 1", STAGE_1), 2: ("after practice", STAGE_2[0])}
_OFFSET = 0.1  # between lines along the x axis, so that their intervals do not overlap
_NAME_HEIGHT = 0.065  # of the y axis


@dataclass(frozen=True, slots=True, kw_only=True)
class FractionPoint:
    """Success of one stage at one fraction of the demonstrations.

    Attributes:
        percent: of the demonstrations that Stage 1 was trained on.
        stage: 1 or 2.
        demonstrations: their number.
        pooled: over the episodes of all seeds.
        seeds: success of each seed.
        paper: success in the paper at this fraction; None where it has none.
    """

    percent: int
    stage: int
    demonstrations: int
    pooled: Rate
    seeds: tuple[float, ...]
    paper: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points that are joined by a line, with the name and colour of the line."""

    name: str
    colour: str
    points: Sequence[FractionPoint]


def fractions_figure(points: Sequence[FractionPoint]) -> str:
    """Return success by stage as an SVG file: means with Wilson intervals, a small dot a seed."""
    lines = [
        Line(name=name, colour=colour, points=[point for point in points if point.stage == stage])
        for stage, (name, colour) in _STAGES.items()
    ]
    return lines_figure("Success by fraction of the data", lines)


def lines_figure(title: str, lines: Sequence[Line]) -> str:
    """Return lines over fractions of the data as an SVG file; results of the paper are crosses."""
    points = [point for line in lines for point in line.points]
    percents = sorted({point.percent for point in points})

    def paint(axes: Axes) -> None:
        middle = (len(lines) - 1) / 2
        for number, line in enumerate(lines):
            _paint_line(axes, percents, line, (number - middle) * _OFFSET)
        _name_lines(axes, percents, [line for line in lines if line.points])
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.4, len(percents) - 0.1)
        counts = {point.percent: point.demonstrations for point in points}
        labels = [f"{percent} %\n{counts[percent]:,} demonstrations" for percent in percents]
        axes.set_xticks(range(len(percents)), labels)
        label_axes(
            axes, x="", y="success; 95 % Wilson intervals; small dots: seeds; crosses: paper"
        )

    margins = (0.07, 0.98, 0.14, 0.9)
    return svg_file(figure("fractions", title, paint, _SIZE, margins))


def _paint_line(axes: Axes, percents: Sequence[int], line: Line, offset: float) -> None:
    colour = line.colour
    points = sorted(line.points, key=lambda point: point.percent)
    places = [percents.index(point.percent) + offset for point in points]
    values = [point.pooled.value for point in points]
    low = [value - point.pooled.interval[0] for value, point in zip(values, points, strict=True)]
    high = [point.pooled.interval[1] - value for value, point in zip(values, points, strict=True)]
    axes.errorbar(places, values, yerr=[low, high], color=colour, marker="o", capsize=3)
    for place, point in zip(places, points, strict=True):
        axes.plot([place] * len(point.seeds), point.seeds, ".", color=colour, alpha=0.5)
    paper = [
        (place, point.paper)
        for place, point in zip(places, points, strict=True)
        if point.paper is not None
    ]
    if paper:
        axes.plot(*zip(*paper, strict=True), "x--", color=colour, linewidth=1, alpha=0.6)


def _name_lines(axes: Axes, percents: Sequence[int], lines: Sequence[Line]) -> None:
    """Write each name at the end of its line; names that would overlap are moved up."""
    ends = [max(line.points, key=lambda point: point.percent) for line in lines]
    lowest = -1.0
    for end, line in sorted(zip(ends, lines, strict=True), key=lambda pair: pair[0].pooled.value):
        lowest = max(end.pooled.value, lowest + _NAME_HEIGHT)
        at = percents.index(end.percent) + _OFFSET * (len(lines) - 1) / 2
        style: dict[str, Any] = {"textcoords": "offset points", "xytext": (12, -4)}
        axes.annotate(line.name, (at, lowest), color=line.colour, **style)
