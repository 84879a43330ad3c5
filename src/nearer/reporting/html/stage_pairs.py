"""Figure of success before and after practice, a pair of points a condition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nearer.core.intervals import Rate
from nearer.reporting.html.colours import FRAME, INK, STAGE_1, STAGE_2
from nearer.reporting.html.svg import figure, label_axes, svg_file

_COLOURS = (STAGE_1, STAGE_2[0])
_NAMES = ("before practice", "after practice")
_OFFSET = 0.14  # of each point from the middle of its pair, along the x axis
_WIDTH, _HEIGHT = 110, 330  # pixels, of a pair and of the figure
_LEAST_WIDTH = 430


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePair:
    """Success of one condition before and after practice; before it alone, where none practised.

    Attributes:
        pooled: over the episodes of all seeds.
        seeds: success of each seed.
        paper: success in the paper; empty where it has none.
    """

    name: str
    pooled: tuple[Rate, ...]
    seeds: tuple[tuple[float, ...], ...]
    paper: tuple[float, ...]


def pairs_figure(title: str, groups: Mapping[str, Sequence[StagePair]]) -> str:
    """Return an SVG file: means with Wilson intervals, a line a seed, crosses for the paper.

    Args:
        title: read aloud by screen readers.
        groups: pairs by what they have in common, which stands below them; "" for nothing.
    """
    pairs = [pair for group in groups.values() for pair in group]
    grouped = list(groups) != [""]

    def paint(axes: Axes) -> None:
        for place, pair in enumerate(pairs):
            _paint_pair(axes, place, pair)
        _paint_groups(axes, groups)
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.5, len(pairs) - 0.5)
        axes.set_xticks(range(len(pairs)), [pair.name.replace(", ", ",\n") for pair in pairs])
        shown = [
            Line2D([], [], color=colour, marker="o", linestyle="", label=name)
            for name, colour in zip(_NAMES, _COLOURS, strict=True)
        ]
        legend = axes.legend(handles=shown, frameon=False, ncols=2 if grouped else 1, loc="best")
        if grouped:  # beside the label of the axis
            legend.set_loc("lower right")
            legend.set_bbox_to_anchor((1, 0.98))
        crosses = "; crosses: paper" if any(pair.paper for pair in pairs) else ""
        label_axes(axes, x="", y=f"success; 95 % Wilson intervals; thin lines: seeds{crosses}")

    size = (max(_LEAST_WIDTH, _WIDTH * len(pairs) + 80), _HEIGHT)
    bottom = 0.2 if grouped else 0.14
    return svg_file(figure("stages", title, paint, size, (60 / size[0], 0.98, bottom, 0.9)))


def _paint_groups(axes: Axes, groups: Mapping[str, Sequence[StagePair]]) -> None:
    """Write the name of each group below its pairs, and draw a line where the next begins."""
    start = -0.5
    for name, group in groups.items():
        middle, end = start + len(group) / 2, start + len(group)
        below = axes.get_xaxis_transform()
        axes.text(middle, -0.15, name, transform=below, ha="center", va="top", color=INK)
        if end < sum(map(len, groups.values())) - 0.5:
            axes.axvline(end, color=FRAME, linewidth=0.8)
        start = end


def _paint_pair(axes: Axes, middle: int, pair: StagePair) -> None:
    places = (middle - _OFFSET, middle + _OFFSET)
    for seed in pair.seeds:
        axes.plot(places[: len(seed)], seed, "-", color="grey", linewidth=0.7, alpha=0.7)
    for place, rate, colour in zip(places, pair.pooled, _COLOURS, strict=False):
        low, high = rate.interval
        errors = [[rate.value - low], [high - rate.value]]
        axes.errorbar([place], [rate.value], yerr=errors, color=colour, marker="o", capsize=3)
    for place, value, colour in zip(places, pair.paper, _COLOURS, strict=False):
        axes.plot([place + _OFFSET / 2], [value], "x", color=colour, alpha=0.6)
