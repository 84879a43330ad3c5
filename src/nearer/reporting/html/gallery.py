"""The section with rollouts: drawn as paths in the point-mass env, as videos elsewhere."""

from nearer.reporting.html import DRAWN_ENV, trajectories
from nearer.reporting.html.clips import side_by_side
from nearer.reporting.html.colours import DATA, STAGE_1, stage_two_colour
from nearer.reporting.html.markup import Html, paragraph, section, tag
from nearer.reporting.html.run_data import Report, RunData
from nearer.reporting.html.summary import no_rollouts
from nearer.reporting.html.svg import figure
from nearer.reporting.html.trajectories import Row

_TITLE = "First ten episodes: data, Stage 1, Stage 2"


def rollouts(report: Report) -> Html:
    """Return the first episodes of the data and of every policy, as paths or videos."""
    rows = _rows(report)
    if _envs(report) - {DRAWN_ENV} or not all(trajectories.can_draw(row.rollouts) for row in rows):
        return side_by_side(report)
    sentences = [no_rollouts(run) for run in report.runs if not _shown(run)]
    if not rows:
        return section("rollouts", _TITLE, *sentences)
    drawing = figure(
        "rollouts",
        "Paths of the first episodes of the data and of every policy",
        trajectories.paint_rows(rows),
        size=trajectories.size_of(rows),
        margins=(0.0, 1.0, 0.0, 1.0),
    )
    lead = paragraph(_lead(report, rows), "lead")
    return section("rollouts", _TITLE, lead, tag("div", drawing, css="wide"), *sentences)


def _lead(report: Report, rows: list[Row]) -> str:
    words = (
        "Dots are observations, stronger with time; the open circle is the start, the disc "
        "the goal. Every tile shows the same 2.4 m × 2.4 m."
    )
    if sum(row.colour != DATA for row in rows) > 1 and _same_starts(report):
        words += (
            " In a column Stage 1 and Stage 2 have the same start and goal; the data have others."
        )
    return words


def _same_starts(report: Report) -> bool:
    seeds = {run.evaluated.evaluation.seed for run in report.runs if run.evaluated}
    return len(seeds) == 1


def _rows(report: Report) -> list[Row]:
    """Return a row of episodes for the data and for every policy that has some, data first."""
    rows = [
        Row(
            name=_name("Data", run, len(report.stage_one)),
            colour=DATA,
            rollouts=run.demonstrations,
        )
        for run in report.stage_one
        if run.demonstrations
    ]
    rows += [
        Row(
            name=_name("Stage 1", run, len(report.stage_one)),
            colour=STAGE_1,
            rollouts=_shown(run),
        )
        for run in report.stage_one
        if _shown(run)
    ]
    rows += [
        Row(
            name=_name("Stage 2", run, len(report.stage_two)),
            colour=stage_two_colour(run.index),
            rollouts=_shown(run),
        )
        for run in report.stage_two
        if _shown(run)
    ]
    return rows


def _name(stage: str, run: RunData, num_runs: int) -> str:
    """Return the name of a row; a second line names the run where a stage has several."""
    name = run.root.name
    return stage if num_runs == 1 else f"{stage}\n{name if len(name) < 13 else name[:11] + '…'}"


def _shown(run: RunData) -> tuple[trajectories.Rollout, ...]:
    return run.evaluated.rollouts if run.evaluated else ()


def _envs(report: Report) -> set[str]:
    """Return the envs in which the runs were evaluated, calibrated or practised."""
    envs = {run.evaluated.env for run in report.runs if run.evaluated}
    return envs | {run.env for run in report.runs if run.env}
