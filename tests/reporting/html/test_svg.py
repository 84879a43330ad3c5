"""Figures as inline SVG: ids that never clash, text that stays text."""

import re

import numpy as np
from matplotlib.axes import Axes

from nearer.reporting.html.svg import figure, label_axes


def paint(axes: Axes) -> None:
    """A clipped curve with words, which needs ids inside the figure."""
    axes.plot(np.linspace(0, 1, 5), np.linspace(0, 1 / 3, 5))
    axes.set_xlim(0, 0.5)
    label_axes(axes, x="time, s", y="success")


def ids(svg: str) -> list[str]:
    return re.findall(r'\sid="([^"]+)"', svg)


def references(svg: str) -> list[str]:
    return re.findall(r'(?:href="|url\()#([^")]+)', svg)


def test_figure_ids_of_two_figures_never_clash() -> None:
    page = figure("one", "first", paint) + figure("two", "second", paint)
    assert ids(page)
    assert len(ids(page)) == len(set(ids(page)))
    assert {name.split("-")[0] for name in ids(page)} == {"one", "two"}


def test_figure_references_all_have_their_target() -> None:
    svg = figure("one", "first", paint)
    assert references(svg)
    assert set(references(svg)) == set(ids(svg))


def test_figure_text_stays_text() -> None:
    svg = figure("one", "first", paint)
    for words in ("time, s", "success"):
        assert f">{words}</text>" in svg


def test_figure_description_is_escaped() -> None:
    assert 'aria-label="&lt;b&gt; &amp; co"' in figure("one", "<b> & co", paint)


def test_figure_size_is_its_view_box() -> None:
    assert 'viewBox="0 0 200 100"' in figure("one", "first", paint, size=(200, 100))


def test_figure_coordinates_have_at_most_two_decimals() -> None:
    paths = re.findall(r' d="([^"]+)"', figure("one", "first", paint))
    assert paths
    assert not re.search(r"\.\d{3}", " ".join(paths))


def test_figure_painted_twice_is_the_same() -> None:
    assert figure("one", "first", paint) == figure("one", "first", paint)
