"""Figures of success against the fraction of the demonstrations."""

import re

from nearer.core.intervals import Rate
from nearer.reporting.html.fraction_curves import (
    FractionPoint,
    Line,
    fractions_figure,
    lines_figure,
)


def point(percent: int, stage: int, successes: int, paper: float | None = None) -> FractionPoint:
    return FractionPoint(
        percent=percent,
        stage=stage,
        demonstrations=10 * percent,
        pooled=Rate(successes=successes, total=100),
        seeds=(0.4, 0.6),
        paper=paper,
    )


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def test_fractions_figure_names_fractions_and_stages() -> None:
    shown = texts(fractions_figure([point(10, 1, 50), point(10, 2, 70), point(80, 1, 90)]))
    assert {"10 %", "80 %", "100 demonstrations", "800 demonstrations"} <= set(shown)
    assert {"Stage 1", "after practice"} <= set(shown)


def test_fractions_figure_is_an_svg_file_with_a_white_background() -> None:
    svg = fractions_figure([point(10, 1, 50)])
    assert svg.startswith("<svg ")
    assert svg.endswith("</svg>\n")
    assert svg.count('fill="white"') == 1


def test_lines_figure_leaves_out_the_names_of_empty_lines() -> None:
    lines = [
        Line(name="multimodal", colour="red", points=[point(10, 2, 80, paper=0.7)]),
        Line(name="scratch", colour="blue", points=[]),
    ]
    shown = texts(lines_figure("Success", lines))
    assert "multimodal" in shown
    assert "scratch" not in shown


def test_lines_figure_describes_itself() -> None:
    svg = lines_figure("Success & more", [Line(name="a", colour="red", points=[point(10, 2, 8)])])
    assert 'aria-label="Success &amp; more"' in svg
