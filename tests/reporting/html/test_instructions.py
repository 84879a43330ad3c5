"""Success by instruction, or by word where there are many instructions."""

import re
from collections.abc import Sequence
from dataclasses import replace

from nearer.reporting.html.instructions import instructions
from nearer.reporting.html.run_data import Report
from report_values import evaluated, report_of, words


def section_of(report: Report, outcomes: Sequence[tuple[str, bool]]) -> str:
    """Return the section of a Stage-1 run with these outcomes."""
    return instructions(
        report_of([replace(report.stage_one[0], evaluated=evaluated(outcomes))], [])
    )


def rows(html: str) -> list[str]:
    """Return the names of the rows of the figure."""
    return re.findall(r">([^<>]+, n = [\d,]+)<", html)


def test_instructions_section_of_a_single_instruction_is_empty(report: Report) -> None:
    assert section_of(report, [("push it", True), ("push it", False)]) == ""


def test_instructions_section_of_a_few_has_a_row_each_lowest_success_first(report: Report) -> None:
    outcomes = [("push it", True), ("<b>pull", False), ("pull it", True), ("push it", True)]
    assert rows(section_of(report, outcomes)) == [
        "all starts, n = 4",
        "&lt;b&gt;pull, n = 1",
        "pull it, n = 1",
        "push it, n = 2",
    ]


def test_instructions_section_of_many_groups_them_by_word(report: Report) -> None:
    colours = ["red"] * 40 + ["blue"] * 60
    html = section_of(
        report,
        [(f"push the {colour} cube to {i}", colour == "blue") for i, colour in enumerate(colours)],
    )
    assert rows(html) == ["all starts, n = 100", "red, n = 40", "blue, n = 60"]
    assert "Different instructions 100" in words(html)


def test_instructions_section_of_many_leaves_out_rare_words(report: Report) -> None:
    colours = ["red"] * 9 + ["blue"] * 60
    html = section_of(report, [(f"the {colour} {i}", True) for i, colour in enumerate(colours)])
    assert rows(html) == ["all starts, n = 69", "blue, n = 60"]


def test_instructions_section_of_a_long_name_shortens_it(report: Report) -> None:
    (_, long, _) = rows(section_of(report, [("a" * 80, False), ("b", True)]))
    assert long == "a" * 51 + "…, n = 1"


def test_instructions_section_of_several_policies_names_them(report: Report) -> None:
    outcomes = [("push it", True), ("pull it", False)]
    stage_one = replace(report.stage_one[0], evaluated=evaluated(outcomes))
    stage_two = replace(report.stage_two[0], evaluated=evaluated(outcomes))
    text = words(instructions(report_of([stage_one], [stage_two])))
    assert "● Stage 1 ● Stage 2" in text
