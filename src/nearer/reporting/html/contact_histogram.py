"""Figure of where along an object it was pushed, before and after practice."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes

from nearer.core.arrays import Array
from nearer.reporting.html.colours import MUTED, STAGE_1, STAGE_2
from nearer.reporting.html.svg import figure, label_axes, svg_file

_COLOURS = (STAGE_1, STAGE_2[0])
_SIZE = (560, 300)
_EDGES = np.linspace(-1.5, 1.5, 31)


def contact_histogram(
    title: str, along: Mapping[str, Float64[Array, "contacts"]], end: float
) -> str:
    """Return an SVG file: the share of contact steps by where the effector was.

    Args:
        title: read aloud by screen readers.
        along: of each policy by its name, at most two: the effector's place along the object at
            every contact step, -1 at one tip and 1 at the other.
        end: from which distance to the middle on a push is at an end; both ends are shaded.
    """

    def paint(axes: Axes) -> None:
        for low, high in ((_EDGES[0], -end), (end, _EDGES[-1])):
            axes.axvspan(low, high, color=MUTED, alpha=0.08, linewidth=0)
        for (name, places), colour in zip(along.items(), _COLOURS, strict=False):
            counts, _ = np.histogram(np.clip(places, -1.499, 1.499), _EDGES)
            axes.stairs(
                100 * counts / max(1, len(places)), _EDGES, color=colour, label=name, linewidth=1.8
            )
        axes.legend(loc="upper right", frameon=False)
        axes.set_xlim(_EDGES[0], _EDGES[-1])
        axes.set_ylim(bottom=0)
        label_axes(
            axes,
            x="effector along the banana: -1 stem, 0 middle, 1 other end; shaded: the ends",
            y="share of the steps with contact, %",
        )

    return svg_file(figure("contacts", title, paint, _SIZE, (0.08, 0.97, 0.16, 0.9)))
