"""What a run cost and how it was made: tables of stages, settings and versions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from nearer.reporting.html.markup import Html, decimal, section, table, tag, text, whole
from nearer.reporting.html.run_data import Report, RunFacts, StageOne, StageTwo, number

_COST_HEAD = (
    "Stage",
    "Run",
    "Iterations",
    "Updates",
    "Episodes",
    "Control steps",
    "Actions beyond limits",
    "Seconds",
    "Steps a second",
)


def cost(report: Report) -> Html:
    """Return what every stage and evaluation took."""
    rows = [row for run in report.stage_one for row in _cost_of_stage_one(run)]
    rows += [_cost_of_stage_two(run) for run in report.stage_two]
    rows += [row for facts in report.all_facts for row in _cost_of_evaluation(facts)]
    lead = (
        "Wall-clock seconds of seeing, training and practice; calibration is not counted. Seeing "
        "is what the sight takes to look at the demonstrations and to learn from them; what an "
        "earlier run left in the cache takes none."
    )
    return section("cost", "Cost", tag("p", text(lead)), table(_COST_HEAD, rows))


def config_section(report: Report) -> Html:
    """Return every run's settings and provenance, folded away."""
    folded = [_config_of(facts) for facts in report.all_facts]
    return section("config", "Config and provenance", *folded)


def _cost_of_stage_one(run: StageOne) -> list[list[Html]]:
    updates = run.facts.last("step")
    sft = _row("Stage 1, SFT", run.facts, updates=updates, seconds=_seconds(run.facts))
    if not np.isfinite(run.seeing_s):
        return [sft]
    return [_row("Stage 1, seeing", run.facts, seconds=run.seeing_s), sft]


def _cost_of_stage_two(run: StageTwo) -> list[Html]:
    iterations, settings = run.facts.last("step"), run.facts.settings
    updates = number(settings.get("practice.updates_per_iteration"))
    epochs = number(settings.get("deviate.epochs", 1))
    return _row(
        "Stage 2, Self-Improvement",
        run.facts,
        iterations=iterations,
        updates=iterations * updates * epochs,
        episodes=run.facts.last("practice/episodes"),
        steps=run.facts.last("practice/env_steps"),
        outside=float(run.facts.series("practice/actions_outside").sum()),
        seconds=_seconds(run.facts),
    )


def _cost_of_evaluation(facts: RunFacts) -> list[list[Html]]:
    if facts.evaluated is None:
        return []
    evaluation = facts.evaluated.evaluation
    steps = sum(result.num_steps for result in evaluation.results)
    episodes, seconds = len(evaluation.results), evaluation.seconds
    outside = number(evaluation.actions_outside)
    return [
        _row("Evaluation", facts, episodes=episodes, steps=steps, outside=outside, seconds=seconds)
    ]


def _row(
    stage: str,
    facts: RunFacts,
    *,
    iterations: float = np.nan,
    updates: float = np.nan,
    episodes: float = np.nan,
    steps: float = np.nan,
    outside: float = np.nan,
    seconds: float = np.nan,
) -> list[Html]:
    counts = [text(whole(one)) for one in (iterations, updates, episodes, steps, outside)]
    rate = steps / seconds if seconds > 0 else np.nan
    return [text(stage), text(facts.name), *counts, text(decimal(seconds)), text(whole(rate))]


def _seconds(facts: RunFacts) -> float:
    return facts.last("time/elapsed_s")


def _config_of(facts: RunFacts) -> Html:
    header = {
        "command": facts.header.command,
        "git_revision": facts.header.git_revision,
        "created": facts.header.created,
        **asdict(facts.header.inputs),
    }
    summary = tag("summary", tag("b", text(facts.name)), text(f" {facts.root}"))
    return tag(
        "details",
        summary,
        tag(
            "div",
            _settings("Config", facts.settings),
            _settings("Run", {"path": facts.root, **header}),
            _settings("Versions", facts.header.versions),
            css="config",
        ),
    )


def _settings(title: str, rows: Mapping[str, object]) -> Html:
    cells: Sequence[Sequence[Html]] = [
        [tag("code", text(name)), tag("code", text(value))] for name, value in rows.items()
    ]
    return table((title, ""), cells)
