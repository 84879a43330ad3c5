"""The colours of a page and their names in report.css, which gives them other values in the dark.

Figures and legends are made with the light colours; `themed` lets the page's scheme decide.
"""

import re
from collections.abc import Mapping

from nearer.reporting.html.markup import Html, raw

INK = "#1f2933"
MUTED = "#66717e"
FRAME = "#b9c2cc"
GRID = "#e9ecf0"
DATA = "#7f8a96"
WASH = "#f7f8fa"
GOAL = "#cfd6dd"
PAPER = "#ffffff"
STAGE_1 = "#0072b2"
STAGE_2 = ("#d55e00", "#8f5a00", "#cc79a7", "#e69f00", "#7a3b8f", "#3d3d3d")
"""Colours of Stage-2 runs, in their order. Blue, vermilion and most others are from Okabe and Ito
(2008), whose colours colour-blind readers can tell apart."""

NAMES: Mapping[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    FRAME: "--frame",
    GRID: "--grid",
    DATA: "--data",
    WASH: "--wash",
    GOAL: "--goal",
    PAPER: "--paper",
    STAGE_1: "--stage-1",
    **{colour: f"--stage-2-{index}" for index, colour in enumerate(STAGE_2)},
}
"""Light colour -> custom property of report.css."""

_STYLE = re.compile(r'style="[^"]*"')
_COLOUR = re.compile("|".join(NAMES))


def stage_two_colour(index: int) -> str:
    """Return the colour of a Stage-2 run, counted from 0; they repeat after the sixth."""
    return STAGE_2[index % len(STAGE_2)]


def themed(page: Html) -> Html:
    """Return a page whose style attributes name its colours, so that they follow its scheme."""

    def named(style: re.Match[str]) -> str:
        return _COLOUR.sub(lambda colour: f"var({NAMES[colour[0]]}, {colour[0]})", style[0])

    # In text a quotation mark is escaped, so that no text looks like an attribute.
    return raw(_STYLE.sub(named, page))
