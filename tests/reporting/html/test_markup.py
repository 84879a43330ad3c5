"""HTML elements: everything that is text is escaped, and numbers read alike everywhere."""

from math import nan

import pytest

from nearer.core.intervals import Rate
from nearer.reporting.html.markup import (
    aside,
    command,
    decimal,
    interval,
    join,
    legend,
    missing,
    panel,
    paragraph,
    percent,
    probability,
    rate_cell,
    raw,
    section,
    table,
    tag,
    text,
    whole,
)
from report_values import EVIL, words

ESCAPED = "&lt;script&gt;alert(&#x27;pwned&#x27;)&lt;/script&gt; &amp; &lt;b&gt;bold&lt;/b&gt;"


def test_text_of_markup_is_escaped() -> None:
    assert text(EVIL) == ESCAPED


def test_raw_of_markup_stays_markup() -> None:
    assert raw("<hr>") == "<hr>"


def test_tag_with_an_attribute_escapes_its_value() -> None:
    assert tag("a", text("x"), css="c", href='"><b>') == (
        '<a class="c" href="&quot;&gt;&lt;b&gt;">x</a>'
    )


@pytest.mark.parametrize(
    "html",
    [
        paragraph(EVIL),
        section("anchor", EVIL),
        panel(EVIL, raw("<svg></svg>"), EVIL, legend(("●", "red", EVIL))),
        aside(EVIL, {EVIL: EVIL}),
        table([EVIL], [[text(EVIL)]]),
        command(EVIL),
        missing(EVIL, EVIL, EVIL),
    ],
)
def test_elements_with_markup_as_text_escape_it(html: str) -> None:
    assert "<script" not in html
    assert "<b>" not in html
    assert EVIL in words(html)


def test_join_leaves_out_empty_parts() -> None:
    assert join(text("a"), text(""), text("b")) == "a\nb"


def test_command_keeps_its_words_with_spaces_between() -> None:
    assert words(command("nearer eval --env ID")) == "nearer eval --env ID"


def test_legend_without_entries_is_an_empty_line() -> None:
    assert legend() == '<p class="legend"></p>'


def test_rate_cell_names_interval_and_n() -> None:
    assert words(rate_cell(Rate(successes=80, total=100))) == "80.0 % 71.1 to 86.7 %, n = 100"


def test_rate_cell_without_trials_says_so() -> None:
    assert words(rate_cell(Rate(successes=0, total=0))) == "– no trials"


def test_interval_names_its_level_and_n() -> None:
    assert interval(Rate(successes=80, total=100)) == "95 % interval 71.1 to 86.7 %, n = 100"
    assert interval(Rate(successes=0, total=0)) == "no trials"


def test_numbers_of_nan_are_dashes() -> None:
    assert (percent(nan), whole(nan), decimal(nan)) == ("–", "–", "–")


def test_numbers_have_their_digits_and_thousands_apart() -> None:
    assert (percent(0.125), whole(12345.4), decimal(1234.56)) == ("12.5 %", "12,345", "1,234.6")


def test_probability_below_the_smallest_is_an_inequality() -> None:
    assert (probability(5e-5), probability(0.0313)) == ("p < 0.0001", "p = 0.0313")
