"""The page of `nearer report RUN [RUN ...]`: one HTML file that needs no other file or network.

Modules, in the order of the page:

    run_data                   run folders -> values
    summary                    alarms, success before and after practice
    sections                   learning curves, losses, steps-to-go, success detector
    reward_quality             metrics of the reward model, written by nearer eval-reward
    gallery, clips             rollouts as paths (trajectories) or as videos
    instructions               success by instruction
    perception                 where the vision encoder saw the objects, over frames
    robots                     faults of robots, and how well they kept their control rate
    cost, provenance           time taken, settings and versions
    curves, detector_figures   the figures of these sections
    svg, markup                figures as inline SVG, escaped HTML
    colours                    the page's colours, light and dark
    paths                      paths without the folders of a machine
"""

from collections.abc import Sequence
from pathlib import Path

from nearer.core.errors import ConfigError
from nearer.reporting.html.colours import themed
from nearer.reporting.html.cost import cost
from nearer.reporting.html.gallery import rollouts
from nearer.reporting.html.instructions import instructions
from nearer.reporting.html.markup import NOTHING, Html, join, paragraph, raw, tag, text
from nearer.reporting.html.perception import perception
from nearer.reporting.html.provenance import provenance
from nearer.reporting.html.reward_quality import reward_quality
from nearer.reporting.html.robots import robots
from nearer.reporting.html.run_data import Report, read_report
from nearer.reporting.html.sections import detector, distributions, learning, losses, steps_to_go
from nearer.reporting.html.summary import alarms, summary
from nearer.runs.files import whole_file

STYLE = Path(__file__).with_name("report.css")
_CONTENTS = {
    "learning": "Learning",
    "rollouts": "Rollouts",
    "instructions": "Instructions",
    "perception": "Perception",
    "losses": "Stage 1",
    "steps-to-go": "Steps-to-go",
    "detector": "Success detector",
    "reward-model": "Reward model",
    "distributions": "Distributions",
    "robots": "Robots",
    "cost": "Cost",
    "config": "Config",
}


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the page about these runs and return its path.

    Where a run lacks data, the page names the command that makes it.

    Args:
        runs: folders of Stage-1 and Stage-2 runs, in any order.
        out: the HTML file; its folder is made if needed.

    Raises:
        ConfigError: a folder is no run, a file of it cannot be read, or `out` cannot be
            written.
    """
    page = render(read_report(runs, out.parent))
    try:
        with whole_file(out) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--out must be a file that can be written, got {out}: {error.strerror}"
        ) from error
    return out


def render(report: Report) -> Html:
    """Return the page as HTML."""
    names = " and ".join(run.name for run in report.runs)
    head = join(
        raw('<meta charset="utf-8">'),
        raw('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", text(f"nearer: {names}")),
        tag("style", raw(STYLE.read_text(encoding="utf-8"))),
    )
    sections = (
        learning(report),
        rollouts(report),
        instructions(report),
        perception(report),
        losses(report),
        steps_to_go(report),
        detector(report),
        reward_quality(report),
        distributions(report),
        robots(report),
        cost(report),
        provenance(report),
    )
    body = join(
        tag("header", _title(report), _contents(sections)),
        tag("main", alarms(report), summary(report), *sections),
    )
    html = tag("html", tag("head", head), tag("body", themed(body)), lang="en")
    return join(raw("<!doctype html>"), html)


def _title(report: Report) -> Html:
    """Return the heading: instruction, env, runs, dates."""
    evaluated = [run.evaluated for run in report.runs if run.evaluated]
    tasks = dict.fromkeys(
        result.instruction for each in evaluated for result in each.evaluation.results
    )
    details = [
        ", ".join(sorted({each.env for each in evaluated})),
        *(f"Stage 1: {run.name}" for run in report.stage_one),
        *(f"Stage 2: {run.name}" for run in report.stage_two),
        *sorted({run.header.created[:10] for run in report.runs}),
    ]
    parts = [tag("span", text(detail)) for detail in details if detail]
    return join(
        tag("p", text("nearer report"), css="eyebrow"),
        tag("h1", text(_heading(list(tasks)))),
        tag("p", *parts, css="about") if parts else NOTHING,
        *_chunks(report),
    )


def _chunks(report: Report) -> list[Html]:
    """Return, for policies that predict action chunks, which numbers count decisions."""
    return [
        paragraph(
            f"{run.name} predicts chunks of {run.chunk} actions. Its steps-to-go, threshold, "
            f"delay, progress and returns are in decisions of {run.chunk} control steps each, also "
            "where this page says control steps; episode lengths are in control steps."
        )
        for run in report.runs
        if run.chunk > 1
    ]


def _heading(tasks: Sequence[str]) -> str:
    """Return the first instruction, and how many others there are."""
    if not any(tasks):
        return "Runs without an instruction" if tasks else "Runs that are not evaluated yet"
    first = next(filter(None, tasks))
    others = len(tasks) - 1
    more = f" and {others:,} other instruction{'s' if others > 1 else ''}" if others else ""
    return f"“{first}”{more}"


def _contents(sections: Sequence[Html]) -> Html:
    """Return links to the sections on the page."""
    links = [
        tag("a", text(title), href=f"#{anchor}")
        for anchor, title in _CONTENTS.items()
        if any(section.startswith(f'<section id="{anchor}"') for section in sections)
    ]
    return tag("nav", *links)
