"""`nearer report RUN [RUN ...]`: one HTML file that opens offline, with everything inside.

read.py        run folders -> values
headline.py    success before and after     sections.py    the evidence
gallery.py     rollouts, drawn (paths.py)   films.py       rollouts, filmed
trusted.py     what nearer eval-reward found
wordings.py    what was asked for           curves.py, calibrated.py    figures
records.py     cost, config
html.py        escaped markup               draw.py    figures as inline SVG
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nearer.core.errors import ConfigError
from nearer.reporting.html.gallery import rollouts
from nearer.reporting.html.headline import alarms, headline
from nearer.reporting.html.instructions import asked_for
from nearer.reporting.html.markup import NOTHING, Html, join, paragraph, raw, tag, text
from nearer.reporting.html.records import config_section, cost
from nearer.reporting.html.reward_model import trust
from nearer.reporting.html.run_data import Report, RunFacts, flat, number, read_report
from nearer.reporting.html.sections import detector, distributions, learning, losses, steps_to_go
from nearer.runs.files import whole_file
from nearer.runs.json_files import read_json_object

_STYLE = Path(__file__).with_name("report.css")
_CONTENTS = {
    "learning": "Learning",
    "rollouts": "Rollouts",
    "asked": "Instructions",
    "losses": "Stage 1",
    "steps-to-go": "Steps-to-go",
    "detector": "Detector",
    "trust": "Trust",
    "distributions": "Distributions",
    "cost": "Cost",
    "config": "Config",
}


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the page about these runs and return its path.

    Any subset of runs will do: what is missing is a sentence that names the command to run.

    Args:
        runs: folders of Stage-1 and Stage-2 runs, in any order.
        out: the page; its folder is made if needed.

    Raises:
        ConfigError: a folder is no run, a file of it cannot be understood, or `out` cannot be
            written.
    """
    page = render(read_report(runs))
    try:
        with whole_file(out) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--out must be a file that can be written, got {out}: {error.strerror}"
        ) from error
    return out


def render(report: Report) -> Html:
    """Return the whole page."""
    names = " and ".join(facts.name for facts in report.all_facts)
    head = join(
        raw('<meta charset="utf-8">'),
        raw('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", text(f"nearer: {names}")),
        tag("style", raw(_STYLE.read_text(encoding="utf-8"))),
    )
    sections = (
        learning(report),
        rollouts(report),
        asked_for(report),
        losses(report),
        steps_to_go(report),
        detector(report),
        trust(report),
        distributions(report),
        cost(report),
        config_section(report),
    )
    body = join(
        tag("header", _title(report), _contents(sections)),
        tag("main", alarms(report), headline(report), *sections),
    )
    return join(
        raw("<!doctype html>"), tag("html", tag("head", head), tag("body", body), lang="en")
    )


def _title(report: Report) -> Html:
    """Return what the page is about: task, env, model, runs."""
    evaluated = [facts.evaluated for facts in report.all_facts if facts.evaluated]
    tasks = list(dict.fromkeys(r.instruction for one in evaluated for r in one.evaluation.results))
    about = [
        ", ".join(sorted({one.env for one in evaluated})),
        *(f"Stage 1: {run.facts.name}" for run in report.stage_one),
        *(f"Stage 2: {run.facts.name}" for run in report.stage_two),
        *sorted({facts.header.created[:10] for facts in report.all_facts}),
    ]
    parts = [tag("span", text(one)) for one in about if one]
    return join(
        tag("p", text("nearer report"), css="eyebrow"),
        tag("h1", text(_asked(tasks))),
        tag("p", *parts, css="about") if parts else NOTHING,
        *_chunks(report),
    )


def _chunks(report: Report) -> list[Html]:
    """Return, for runs that decide on several control steps at once, what their numbers count."""
    return [
        paragraph(
            f"{facts.name} decides on chunks of {chunk} control steps. Its steps-to-go, threshold, "
            "delay, progress and returns count chunks, also where this page calls them control "
            "steps; lengths of episodes are control steps."
        )
        for facts in report.all_facts
        if (chunk := _chunk(facts)) > 1
    ]


def _chunk(facts: RunFacts) -> int:
    """Return the control steps of a run's decision, by its config or else by its policy's."""
    policy = facts.root / "checkpoints/policy/pretrained_model/config.json"
    saved = flat(read_json_object(policy, "copy the run again")) if policy.is_file() else {}
    found = facts.settings.get("chunking.chunk"), saved.get("spaces.chunking.chunk")
    return int(max((one for one in map(number, found) if 1 < one < np.inf), default=1))


def _asked(tasks: Sequence[str]) -> str:
    """Return what was asked of the policies: the first instruction, and how many more there are."""
    if not any(tasks):
        return "Runs without an instruction" if tasks else "Runs without an evaluation yet"
    first = next(filter(None, tasks))
    others = len(tasks) - 1
    more = f" and {others:,} other instruction{'s' if others > 1 else ''}" if others else ""
    return f"“{first}”{more}"


def _contents(sections: Sequence[Html]) -> Html:
    """Return links to the sections there are."""
    links = [
        tag("a", text(title), href=f"#{anchor}")
        for anchor, title in _CONTENTS.items()
        if any(one.startswith(f'<section id="{anchor}"') for one in sections)
    ]
    return tag("nav", *links)
