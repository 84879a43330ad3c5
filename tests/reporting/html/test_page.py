"""The page about runs: one file that loads nothing, escaped, and honest about what is missing."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from nearer.core.errors import ConfigError
from nearer.reporting.html.page import render, write_report
from nearer.reporting.html.run_data import Report, StageTwo
from nearer.runs.documents import read_header
from report_values import EVIL, Runs, evaluated, report_of, words


def test_write_report_loads_nothing_from_elsewhere(page: str) -> None:
    linked = re.findall(r"""(?:src|href|action|data)\s*=\s*["']([^"']*)""", page)
    linked += re.findall(r"url\(([^)]*)\)", page)
    assert linked
    assert [link for link in linked if not link.startswith(("#", "data:image/png;base64,"))] == []
    assert "<script" not in page
    assert "@import" not in page
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) == namespaces


def test_write_report_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_write_report_of_the_same_run_is_the_same(runs: Runs, tmp_path: Path) -> None:
    first, second = (
        write_report([runs.stage_two], tmp_path / name / "report.html") for name in ("a", "b")
    )
    assert first.read_bytes() == second.read_bytes()


def test_write_report_of_small_runs_is_less_than_500_kb(page: str) -> None:
    assert len(page) < 500_000


def test_write_report_to_a_folder_raises(copied_runs: Runs, tmp_path: Path) -> None:
    for name in ("metrics.jsonl", "audits.jsonl"):
        (copied_runs.stage_two / name).unlink()
    with pytest.raises(ConfigError, match="--out must be a file that can be written"):
        write_report([copied_runs.stage_two], tmp_path)


def test_write_report_shows_no_path_of_the_machine(
    page: str, runs: Runs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = read_header(runs.stage_two).config
    assert str(config["out"]).startswith(str(tmp_path_factory.getbasetemp()))
    assert str(tmp_path_factory.getbasetemp()) not in page
    assert str(Path.home()) + "/" not in page
    assert re.findall(r"(?<![\w<./])/[\w.-]+/[\w./-]+", words(page)) == []


def test_render_writes_no_words_among_the_lines_of_a_figure(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep_and_save(figure: Figure, *arguments: Any, **settings: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **settings)

    monkeypatch.setattr(Figure, "savefig", keep_and_save)
    render(report)
    with_axes = [axes for figure in figures for axes in figure.axes if axes.axison]
    assert len(with_axes) > 10
    assert [text.get_text() for axes in with_axes for text in axes.texts] == []


def test_write_report_has_every_section_in_its_contents(page: str) -> None:
    sections = re.findall(r'<section id="([\w-]+)"', page)
    assert sections[0] == "summary"
    assert re.findall(r'<a href="#([\w-]+)"', page) == sections[1:]


def test_render_heading_names_instruction_env_and_runs(page: str) -> None:
    head = words(page.split("</header>")[0])
    assert "“touch the goal”" in head
    assert "nearer/PointMass-v0 Stage 1: sft Stage 2: practice" in head


@pytest.fixture
def bare(report: Report) -> StageTwo:
    """A Stage-2 run that has just begun, whose page has no figures."""
    run = replace(report.stage_two[0], records=[], evaluated=None)
    return replace(run, before=None, audits=())


def test_render_heading_of_many_instructions_counts_the_others(bare: StageTwo) -> None:
    run = replace(bare, evaluated=evaluated([(f"push {index}", True) for index in range(3)]))
    assert "“push 0” and 2 other instructions" in words(render(report_of([], [run])))


def test_render_heading_without_an_evaluation_says_so(bare: StageTwo) -> None:
    assert "Runs that are not evaluated yet" in words(render(report_of([], [bare])))


def test_render_with_markup_in_every_text_escapes_it(bare: StageTwo) -> None:
    run = replace(
        bare,
        name="<i>run",
        evaluated=evaluated([(EVIL, True), ("other", False)], env=EVIL),
        records=[{"step": 1, "alarm": EVIL}],
    )
    html = render(report_of([], [run]))
    assert "<script" not in html
    assert "<b>bold" not in html
    assert "<i>" not in html
    assert html.count("&lt;script&gt;alert(&#x27;pwned&#x27;)&lt;/script&gt;") >= 3


def test_render_of_a_run_that_has_just_begun_names_the_commands(bare: StageTwo) -> None:
    text = words(render(report_of([], [bare])))
    assert f"nearer eval --checkpoint {bare.shown_root}" in text
    assert "No Stage-2 run with a finished iteration" in text
    assert "No Stage-1 run on this page" in text


def test_render_of_action_chunks_says_which_numbers_count_decisions(bare: StageTwo) -> None:
    chunked = words(render(report_of([], [replace(bare, chunk=4)])))
    assert "practice predicts chunks of 4 actions." in chunked
    assert "are in decisions of 4 control steps each" in chunked
    assert "predicts chunks" not in words(render(report_of([], [bare])))


def test_render_of_a_stage_one_run_alone_says_how_to_practise(report: Report) -> None:
    run = replace(report.stage_one[0], records=[], evaluated=None)
    run = replace(run, calibration=None, demonstrations=())
    text = words(render(report_of([run], [])))
    assert "No Stage-2 run on this page; practise with nearer improve" in text
    assert "No validation yet" in text
    assert "Not measured yet" in text
