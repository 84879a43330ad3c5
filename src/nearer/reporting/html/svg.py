"""Figures as inline SVG elements in one style, with ids that are unique on a page.

Text stays text (svg.fonttype none): figures use the font of the page and can be searched. Inside
the axes of a figure there are no words, which would cover lines: a legend above it names them.
"""

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nearer.reporting.html.colours import FRAME, GRID, INK, MUTED
from nearer.reporting.html.markup import Html, raw, text

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


def svg_file(svg: Html) -> str:
    """Return the text of an SVG file: a figure on white, for pages with any background."""
    document = str(svg)
    end = document.index(">") + 1
    return f'{document[:end]}<rect width="100%" height="100%" fill="white"/>{document[end:]}\n'


def label_axes(axes: Axes, *, x: str, y: str) -> None:
    """Label the axes with their units; the y label stands above its axis, horizontally."""
    axes.set_xlabel(x, fontsize=11)
    axes.set_title(y, loc="left", fontsize=11, color=MUTED, pad=7)


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
