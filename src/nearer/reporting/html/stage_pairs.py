"""Figure of success before and after practice, a pair of points a condition."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nearer.core.intervals import Rate
from nearer.reporting.html.colours import STAGE_1, STAGE_2
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


def pairs_figure(title: str, pairs: Sequence[StagePair]) -> str:
    """Return an SVG file: means with Wilson intervals, a line a seed, crosses for the paper."""

    def paint(axes: Axes) -> None:
        for place, pair in enumerate(pairs):
            _paint_pair(axes, place, pair)
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.5, len(pairs) - 0.5)
        axes.set_xticks(range(len(pairs)), [pair.name.replace(", ", ",\n") for pair in pairs])
        shown = [
            Line2D([], [], color=colour, marker="o", linestyle="", label=name)
            for name, colour in zip(_NAMES, _COLOURS, strict=True)
        ]
        axes.legend(handles=shown, loc="best", frameon=False)  # beside the points
        label_axes(
            axes, x="", y="success; 95 % Wilson intervals; thin lines: seeds; crosses: paper"
        )

    size = (max(_LEAST_WIDTH, _WIDTH * len(pairs) + 80), _HEIGHT)
    return svg_file(figure("stages", title, paint, size, (60 / size[0], 0.98, 0.14, 0.9)))


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
