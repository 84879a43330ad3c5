"""Figures as inline SVG elements in one style, with ids that are unique on a page.

Text stays text (svg.fonttype none): figures use the font of the page and can be searched.
"""

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nearer.reporting.html.markup import Html, raw, text

INK = "#1f2933"
MUTED = "#66717e"
FRAME = "#b9c2cc"
GRID = "#e9ecf0"
DATA = "#7f8a96"
STAGE_1 = "#0072b2"
STAGE_2 = ("#d55e00", "#8f5a00", "#cc79a7", "#e69f00", "#7a3b8f", "#3d3d3d")
"""Colours of Stage-2 runs, in their order. Blue, vermilion and most others are from Okabe and Ito
(2008), whose colours colour-blind readers can tell apart."""

PANEL = (360, 236)
"""Width and height of a panel, in CSS pixels."""

Paint = Callable[[Axes], None]
"""Draws on the axes of a figure."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nearer",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": FRAME,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "xtick.color": FRAME,
    "ytick.color": FRAME,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


def stage_two_colour(index: int) -> str:
    """Return the colour of a Stage-2 run, counted from 0; they repeat after the sixth."""
    return STAGE_2[index % len(STAGE_2)]


def figure(
    name: str,
    description: str,
    paint: Paint,
    size: tuple[int, int] = PANEL,
    margins: tuple[float, float, float, float] = (0.125, 0.97, 0.17, 0.9),
) -> Html:
    """Return a figure as an SVG element.

    Args:
        name: unique on the page; the prefix of all ids inside.
        description: read aloud by screen readers.
        paint: draws on the axes.
        size: width and height in CSS pixels.
        margins: left, right, bottom and top of the axes, as fractions of the figure's size.
    """
    with matplotlib.rc_context(_STYLE):
        canvas = Figure(figsize=(size[0] / 72, size[1] / 72))
        axes = canvas.add_subplot()
        left, right, bottom, top = margins
        canvas.subplots_adjust(left=left, right=right, bottom=bottom, top=top)
        paint(axes)
        out = StringIO()
        canvas.savefig(out, format="svg", transparent=True, metadata=_NO_METADATA)
    return _inline(out.getvalue(), name, description, size)


def label_axes(axes: Axes, *, x: str, y: str) -> None:
    """Label the axes with their units; the y label stands above its axis, horizontally."""
    axes.set_xlabel(x, fontsize=11)
    axes.set_title(y, loc="left", fontsize=11, color=MUTED, pad=7)


def note(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:
    """Write words beside a data point, `xytext` points off; report.css gives them a white halo."""
    axes.annotate(words, (x, y), textcoords="offset points", **style)


def _inline(document: str, name: str, description: str, size: tuple[int, int]) -> Html:
    """Return the svg element of a document, with rounded coordinates and prefixed ids."""
    body = document[document.index("<svg") :]
    body = body[body.index(">") + 1 :]
    referenced = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: _kept_id(m[1], name, referenced), body)
    body = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", body)
    body = re.sub(r' (?:d|x|y|points)="[^"]+"', lambda m: _rounded(m[0]), body)
    body = re.sub(r"\s*\n\s*", "\n", re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL))
    width, height = size
    start = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{text(description)}">'
    )
    return raw(start + body.strip())


def _kept_id(identifier: str, name: str, referenced: set[str]) -> str:
    return f' id="{name}-{identifier}"' if identifier in referenced else ""


def _rounded(attribute: str) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", attribute)
