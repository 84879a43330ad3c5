"""Success against the share of the data, by stage or by rung, beside the paper's."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from nearer.core.intervals import Rate
from nearer.reporting.html.svg import STAGE_1, STAGE_2, label_axes, note, picture

_SIZE = (560, 330)
_STAGES = {1: ("Stage 1", STAGE_1), 2: ("after practice", STAGE_2[0])}
_BESIDE = 0.1
"""Lines of a share stand beside each other, not on top, so many shares apart."""
_NAME_HEIGHT = 0.065  # of the axis


@dataclass(frozen=True, slots=True, kw_only=True)
class SharePoint:
    """Success of one stage at one share of the data.

    Attributes:
        share: percent.
        stage: 1 or 2.
        demonstrations: of this share.
        pooled: over the episodes of all seeds.
        seeds: success of each seed.
        paper: success in the paper, if it has this share.
    """

    share: int
    stage: int
    demonstrations: int
    pooled: Rate
    seeds: tuple[float, ...]
    paper: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points of one kind, with the kind's name and colour."""

    name: str
    colour: str
    points: Sequence[SharePoint]


def shares_figure(points: Sequence[SharePoint]) -> str:
    """Return the figure as an SVG file: means with Wilson intervals, a small dot a seed."""
    lines = [
        Line(name=name, colour=colour, points=[one for one in points if one.stage == stage])
        for stage, (name, colour) in _STAGES.items()
    ]
    return lines_figure("Success by share of the data", lines)


def lines_figure(title: str, lines: Sequence[Line]) -> str:
    """Return lines over shares of the data as an SVG file; the paper's are dashed."""
    points = [point for line in lines for point in line.points]
    shares = sorted({point.share for point in points})

    def paint(axes: Axes) -> None:
        middle = (len(lines) - 1) / 2
        for number, line in enumerate(lines):
            _paint_line(axes, shares, line, (number - middle) * _BESIDE)
        _name_lines(axes, shares, [line for line in lines if line.points])
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.4, len(shares) - 0.1)
        counts = {point.share: point.demonstrations for point in points}
        labels = [f"{share} %\n{counts[share]:,} demonstrations" for share in shares]
        axes.set_xticks(range(len(shares)), labels)
        label_axes(axes, x="", y="success; 95 % Wilson intervals; small dots: seeds; dashed: paper")

    margins = (0.07, 0.98, 0.14, 0.9)
    drawn = str(picture("shares", title, paint, _SIZE, margins))
    end = drawn.index(">") + 1
    return f'{drawn[:end]}<rect width="100%" height="100%" fill="white"/>{drawn[end:]}\n'


def _paint_line(axes: Axes, shares: Sequence[int], line: Line, aside: float) -> None:
    colour = line.colour
    points = sorted(line.points, key=lambda point: point.share)
    places = [shares.index(point.share) + aside for point in points]
    values = [point.pooled.value for point in points]
    low = [value - point.pooled.interval[0] for value, point in zip(values, points, strict=True)]
    high = [point.pooled.interval[1] - value for value, point in zip(values, points, strict=True)]
    axes.errorbar(places, values, yerr=[low, high], color=colour, marker="o", capsize=3)
    for place, point in zip(places, points, strict=True):
        axes.plot([place] * len(point.seeds), point.seeds, ".", color=colour, alpha=0.5)
    known = [
        (place, point.paper)
        for place, point in zip(places, points, strict=True)
        if point.paper is not None
    ]
    if known:
        axes.plot(*zip(*known, strict=True), "x--", color=colour, linewidth=1, alpha=0.6)


def _name_lines(axes: Axes, shares: Sequence[int], lines: Sequence[Line]) -> None:
    """Write each name beside its line's end, names that would touch one above the other."""
    ends = [max(line.points, key=lambda point: point.share) for line in lines]
    lowest = -1.0
    for end, line in sorted(zip(ends, lines, strict=True), key=lambda pair: pair[0].pooled.value):
        lowest = max(end.pooled.value, lowest + _NAME_HEIGHT)
        at = shares.index(end.share) + _BESIDE * (len(lines) - 1) / 2
        note(axes, at, lowest, line.name, xytext=(12, -4), color=line.colour)
