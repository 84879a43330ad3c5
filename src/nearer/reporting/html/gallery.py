"""The section with rollouts: the point mass's drawn, ten a row; other envs' as films."""

from nearer.reporting.html import DRAWN_ENV, trajectories
from nearer.reporting.html.clips import side_by_side
from nearer.reporting.html.headline import evaluate_command
from nearer.reporting.html.markup import Html, missing, paragraph, section, tag
from nearer.reporting.html.run_data import Report, RunFacts
from nearer.reporting.html.svg import DATA, STAGE_1, picture, stage_two_colour
from nearer.reporting.html.trajectories import Row

_TITLE = "Ten rollouts: data, Stage 1, Stage 2"


def rollouts(report: Report) -> Html:
    """Return the first episodes of the data and of every policy, drawn or filmed."""
    rows = _rows(report)
    if _envs(report) - {DRAWN_ENV} or not all(trajectories.can_draw(row.rollouts) for row in rows):
        return side_by_side(report)
    sentences = [
        missing(f"No rollouts of {facts.name} yet; make them with ", evaluate_command(facts), ".")
        for facts in report.all_facts
        if not _shown(facts)
    ]
    if not rows:
        return section("rollouts", _TITLE, *sentences)
    figure = picture(
        "rollouts",
        "Paths of the first episodes of the data and of every policy",
        trajectories.paint_rows(rows),
        size=trajectories.size_of(rows),
        margins=(0.0, 1.0, 0.0, 1.0),
    )
    lead = paragraph(_lead(report, rows), "lead")
    return section("rollouts", _TITLE, lead, tag("div", figure, css="wide"), *sentences)


def _lead(report: Report, rows: list[Row]) -> str:
    words = (
        "Dots are control steps, darker towards the end; the open circle is the start, the disc "
        "the goal. Every tile shows the same 2.4 m × 2.4 m."
    )
    if sum(row.colour != DATA for row in rows) > 1 and _same_starts(report):
        words += " A column of Stage 1 and Stage 2 has the same start and goal; the data's differ."
    return words


def _same_starts(report: Report) -> bool:
    seeds = {facts.evaluated.evaluation.seed for facts in report.all_facts if facts.evaluated}
    return len(seeds) == 1


def _rows(report: Report) -> list[Row]:
    """Return the rows there are episodes for, data first."""
    rows = [
        Row(name=_name("Data", run.facts, len(report.stage_one)), colour=DATA, rollouts=found)
        for run in report.stage_one
        if (found := run.demonstrations)
    ]
    rows += [
        Row(name=_name("Stage 1", run.facts, len(report.stage_one)), colour=STAGE_1, rollouts=found)
        for run in report.stage_one
        if (found := _shown(run.facts))
    ]
    rows += [
        Row(
            name=_name("Stage 2", run.facts, len(report.stage_two)),
            colour=stage_two_colour(run.index),
            rollouts=found,
        )
        for run in report.stage_two
        if (found := _shown(run.facts))
    ]
    return rows


def _name(stage: str, facts: RunFacts, runs: int) -> str:
    """Return the name of a row; a second line names the run where a stage has several."""
    run = facts.root.name
    return stage if runs == 1 else f"{stage}\n{run if len(run) < 13 else run[:11] + '…'}"


def _shown(facts: RunFacts) -> tuple[trajectories.Rollout, ...]:
    return facts.evaluated.rollouts if facts.evaluated else ()


def _envs(report: Report) -> set[str]:
    """Return the envs that the runs name: where they were evaluated, calibrated, practised."""
    named = {facts.evaluated.env for facts in report.all_facts if facts.evaluated}
    named |= {str(run.facts.settings.get("env") or "") for run in report.stage_two}
    named |= {str(run.facts.settings.get("calibration.env") or "") for run in report.stage_one}
    return named - {""}
