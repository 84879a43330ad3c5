"""Pieces of HTML: text is escaped on the way in, so that nothing read from a file becomes markup.

`Html` is markup, `str` is text; only this module turns one into the other.
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from typing import NewType

from nearer.core.intervals import Rate

Html = NewType("Html", str)

NOTHING = Html("")


def text(value: object) -> Html:
    """Return any value as escaped text."""
    return Html(escape(str(value)))


def raw(markup: str) -> Html:
    """Return markup that holds no text from outside."""
    return Html(markup)


def join(*parts: Html) -> Html:
    """Return parts one after the other."""
    return Html("\n".join(part for part in parts if part))


def tag(name: str, *parts: Html, css: str = "", **attributes: str) -> Html:
    """Return an element; its attributes are escaped."""
    given = {"class": css, **attributes} if css else attributes
    words = "".join(f' {key}="{escape(value)}"' for key, value in given.items())
    return Html(f"<{name}{words}>{''.join(parts)}</{name}>")


def paragraph(words: str, css: str = "") -> Html:
    """Return a paragraph of plain text."""
    return tag("p", text(words), css=css)


def section(anchor: str, title: str, *parts: Html) -> Html:
    """Return a section with its heading."""
    return tag("section", tag("h2", text(title)), *parts, id=anchor)


def grid(*cells: Html) -> Html:
    """Return cells side by side; one below the other where there is no room."""
    return tag("div", *cells, css="grid")


def panel(title: str, svg: Html, caption: str, key: Html = NOTHING) -> Html:
    """Return a figure with its title above and its caption below."""
    return tag("figure", tag("h3", text(title)), key, svg, tag("figcaption", text(caption)))


def key(*entries: tuple[str, str, str]) -> Html:
    """Return the key of a figure: (mark, colour, meaning) each; without any, an empty line."""
    marks = [
        tag("span", tag("i", text(mark), style=f"color:{colour}"), text(f" {meaning}"))
        for mark, colour, meaning in entries
    ]
    return tag("p", *marks, css="key")


def aside(words: str, numbers: Mapping[str, str]) -> Html:
    """Return what stands beside figures: numbers by name, and how to read the figures."""
    pairs = [join(tag("dt", text(name)), tag("dd", text(one))) for name, one in numbers.items()]
    listed = tag("dl", *pairs) if pairs else NOTHING
    return tag("aside", listed, paragraph(words))


def table(head: Sequence[str], rows: Sequence[Sequence[Html]]) -> Html:
    """Return a table that scrolls sideways on a narrow screen."""
    titles = tag("tr", *(tag("th", text(one), scope="col") for one in head))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("div", tag("table", tag("thead", titles), tag("tbody", *body)), css="scroll")


def command(words: str) -> Html:
    """Return a command to type."""
    return tag("code", text(words))


def missing(before: str, words: str, after: str = "") -> Html:
    """Return the sentence that stands for a section without data, with the command that helps."""
    return tag("p", text(before), command(words), text(after), css="missing")


def percent(value: float) -> str:
    """Return a share in per cent; a dash for nan."""
    return f"{100 * value:.1f} %" if isfinite(value) else "–"


def interval(rate: Rate) -> str:
    """Return the 95 % interval of a rate, and n."""
    if not rate.total:
        return "no trials"
    low, high = rate.interval
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %, n = {rate.total:,}"


def rate_cell(rate: Rate) -> Html:
    """Return a rate with interval and n, for a table whose head says which interval."""
    low, high = rate.interval
    range_and_n = f"{100 * low:.1f} to {100 * high:.1f} %, n = {rate.total:,}"
    return join(tag("b", text(percent(rate.value))), tag("small", text(range_and_n)))


def whole(value: float) -> str:
    """Return a whole number with its thousands apart; a dash for nan."""
    return f"{value:,.0f}" if isfinite(value) else "–"


def decimal(value: float, digits: int = 1) -> str:
    """Return a number with so many decimals; a dash for nan."""
    return f"{value:,.{digits}f}" if isfinite(value) else "–"


def probability(value: float) -> str:
    """Return a p-value."""
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.4f}"
