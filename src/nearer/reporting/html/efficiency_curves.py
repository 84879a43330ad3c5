"""Figure of success against further episodes, practised or demonstrated: sample efficiency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes

from nearer.core.intervals import seed_interval
from nearer.reporting.html.colours import DATA, STAGE_2
from nearer.reporting.html.svg import figure, label_axes, svg_file

_SIZE = (560, 330)
_COLOURS = {"practised": STAGE_2[0], "demonstrated": DATA}


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Success of all seeds after so many further episodes.

    Attributes:
        episodes: beyond the small set of demonstrations, mean over seeds.
        rates: success rate of each seed.
    """

    episodes: float
    rates: tuple[float, ...]


def efficiency_figure(first: int, curves: Mapping[str, Sequence[CurvePoint]]) -> str:
    """Return the curves as an SVG file: means, 95 % intervals over seeds as bands, a dot a seed.

    Args:
        first: demonstrations that every policy started from.
        curves: by name, practised or demonstrated; each in the order of its episodes.
    """

    def paint(axes: Axes) -> None:
        for name, points in curves.items():
            _paint_curve(axes, name, points, _COLOURS[name])
        axes.set_ylim(0.5, 1)
        axes.legend(loc="lower right", frameon=False)
        label_axes(
            axes,
            x=f"further episodes, beyond {first:,} demonstrations",
            y="success; bands: 95 % over seeds; small dots: seeds",
        )

    title = "Success by further episodes"
    return svg_file(figure("efficiency", title, paint, _SIZE, (0.07, 0.97, 0.14, 0.9)))


def _paint_curve(axes: Axes, name: str, points: Sequence[CurvePoint], colour: str) -> None:
    episodes = [point.episodes for point in points]
    axes.plot(episodes, [fmean(point.rates) for point in points], "o-", color=colour, label=name)
    for point in points:
        axes.plot([point.episodes] * len(point.rates), point.rates, ".", color=colour, alpha=0.5)
    if all(len(point.rates) > 1 for point in points):
        lows, highs = zip(*(seed_interval(point.rates) for point in points), strict=True)
        axes.fill_between(episodes, lows, highs, color=colour, alpha=0.15, linewidth=0)
