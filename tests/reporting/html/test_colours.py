"""Colours that follow the scheme of the reader's system."""

import re

import pytest

from nearer.reporting.html import page
from nearer.reporting.html.colours import NAMES, STAGE_1, STAGE_2, stage_two_colour, themed
from nearer.reporting.html.markup import Html, tag, text


@pytest.mark.parametrize("index", [0, 5])
def test_stage_two_colour_repeats_after_the_last(index: int) -> None:
    assert stage_two_colour(index) == stage_two_colour(index + len(STAGE_2)) == STAGE_2[index]


def test_themed_names_the_colours_of_style_attributes() -> None:
    html = themed(Html(f'<path style="fill: none; stroke: {STAGE_1}"/>'))
    assert html == f'<path style="fill: none; stroke: var(--stage-1, {STAGE_1})"/>'


def test_themed_leaves_text_that_looks_like_a_style() -> None:
    html = tag("p", text(f'style="color:{STAGE_1}"'))
    assert themed(html) == html


def test_names_have_a_value_in_the_dark_scheme() -> None:
    css = page.STYLE.read_text()
    dark = css[css.index("(prefers-color-scheme: dark)") :]
    assert set(NAMES.values()) <= set(re.findall(r"(--[\w-]+):", dark))


def test_page_draws_nothing_in_a_colour_without_a_name(page: str) -> None:
    styles = " ".join(re.findall(r'style="([^"]*)"', page))
    unnamed = re.sub(r"var\([^)]*\)", "", styles)
    assert re.findall(r"(?:fill|stroke|color): ?(#\w+)", unnamed) == []
