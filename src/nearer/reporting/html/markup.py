"""HTML elements, with all text escaped, so that nothing read from a file becomes markup.

`Html` is markup and `str` is text; only this module turns one into the other.
"""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from typing import NewType

from nearer.core.intervals import Rate

Html = NewType("Html", str)

NOTHING = Html("")


def text(value: object) -> Html:
    """Return a value as escaped text."""
    return Html(escape(str(value)))


def raw(markup: str) -> Html:
    """Return trusted markup as it is; it must hold no text that was read from a file."""
    return Html(markup)


def join(*parts: Html) -> Html:
    """Return parts one after the other, without the empty ones."""
    return Html("\n".join(part for part in parts if part))


def tag(name: str, *parts: Html, css: str = "", **attributes: str) -> Html:
    """Return an element; attribute values are escaped.

    Args:
        name: of the element.
        parts: its content.
        css: its class, if any.
        attributes: the others, by name.
    """
    every = {"class": css, **attributes} if css else attributes
    written = "".join(f' {key}="{escape(value)}"' for key, value in every.items())
    return Html(f"<{name}{written}>{''.join(parts)}</{name}>")


def paragraph(words: str, css: str = "") -> Html:
    """Return a paragraph of plain text."""
    return tag("p", text(words), css=css)


def section(anchor: str, title: str, *parts: Html) -> Html:
    """Return a section under a heading; links lead to its anchor."""
    return tag("section", tag("h2", text(title)), *parts, id=anchor)


def grid(*cells: Html) -> Html:
    """Return cells side by side, or one below the other on a narrow screen."""
    return tag("div", *cells, css="grid")


def panel(title: str, svg: Html, caption: str, legend: Html = NOTHING) -> Html:
    """Return a figure with its title and legend above and its caption below."""
    return tag("figure", tag("h3", text(title)), legend, svg, tag("figcaption", text(caption)))


def legend(*entries: tuple[str, str, str]) -> Html:
    """Return the legend of a figure, (mark, colour, meaning) each; an empty line without any."""
    marks = [
        tag("span", tag("i", text(mark), style=f"color:{colour}"), text(f" {meaning}"))
        for mark, colour, meaning in entries
    ]
    return tag("p", *marks, css="legend")


def aside(words: str, numbers: Mapping[str, str]) -> Html:
    """Return a column beside figures: numbers by name, and how to read the figures."""
    pairs = [join(tag("dt", text(name)), tag("dd", text(value))) for name, value in numbers.items()]
    number_list = tag("dl", *pairs) if pairs else NOTHING
    return tag("aside", number_list, paragraph(words))


def table(head: Sequence[str], rows: Sequence[Sequence[Html]]) -> Html:
    """Return a table that scrolls sideways on a narrow screen."""
    head_row = tag("tr", *(tag("th", text(title), scope="col") for title in head))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("div", tag("table", tag("thead", head_row), tag("tbody", *body)), css="scroll")


def command(words: str) -> Html:
    """Return a shell command; a line breaks between its words, not inside an option."""
    return tag("code", Html(" ".join(tag("span", text(word)) for word in words.split())))


def missing(before: str, shell: str, after: str = "") -> Html:
    """Return a sentence in place of data that a run lacks, with the command that makes the data."""
    return tag("p", text(before), command(shell), text(after), css="missing")


def percent(value: float) -> str:
    """Return a fraction in per cent; a dash for nan."""
    return f"{100 * value:.1f} %" if isfinite(value) else "–"


def interval(rate: Rate) -> str:
    """Return the 95 % interval of a rate and its n."""
    if not rate.total:
        return "no trials"
    low, high = rate.interval
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f} %, n = {rate.total:,}"


def rate_cell(rate: Rate) -> Html:
    """Return a rate with its interval and n, for a table whose head names the interval."""
    if not rate.total:
        return join(tag("b", text("–")), tag("small", text("no trials")))
    low, high = rate.interval
    range_and_n = f"{100 * low:.1f} to {100 * high:.1f} %, n = {rate.total:,}"
    return join(tag("b", text(percent(rate.value))), tag("small", text(range_and_n)))


def whole(value: float) -> str:
    """Return a whole number with separators between thousands; a dash for nan."""
    return f"{value:,.0f}" if isfinite(value) else "–"


def decimal(value: float, digits: int = 1) -> str:
    """Return a number with `digits` decimals; a dash for nan."""
    return f"{value:,.{digits}f}" if isfinite(value) else "–"


def probability(value: float) -> str:
    """Return a p-value."""
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.4f}"
