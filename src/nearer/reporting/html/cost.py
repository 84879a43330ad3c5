"""The section on cost: episodes, control steps and seconds of every stage and evaluation."""

import numpy as np

from nearer.reporting.html.markup import Html, decimal, paragraph, section, table, text, whole
from nearer.reporting.html.run_data import Report, RunData, StageOne, StageTwo
from nearer.runs.metrics import number

_COST_HEAD = (
    "Stage",
    "Run",
    "Iterations",
    "Updates",
    "Episodes",
    "Control steps",
    "Actions outside limits",
    "Seconds",
    "Control steps/s",
)


def cost(report: Report) -> Html:
    """Return a table of what every stage and evaluation took."""
    rows = [row for run in report.stage_one for row in _cost_of_stage_one(run)]
    rows += [_cost_of_stage_two(run) for run in report.stage_two]
    rows += [row for run in report.runs for row in _cost_of_evaluation(run)]
    lead = (
        "Wall-clock time of training and practice; calibrating the success detector is not "
        "counted. The row of a vision encoder is the time to encode the demonstrations, and to "
        "train on them, before the first update; features from the cache take none."
    )
    return section("cost", "Cost", paragraph(lead, "lead"), table(_COST_HEAD, rows))


def _cost_of_stage_one(run: StageOne) -> list[list[Html]]:
    updates = run.last("step")
    sft = _row("Stage 1, SFT", run, updates=updates, seconds=_seconds(run))
    if not np.isfinite(run.encoding_s):
        return [sft]
    return [_row("Stage 1, vision encoder", run, seconds=run.encoding_s), sft]


def _cost_of_stage_two(run: StageTwo) -> list[Html]:
    iterations = run.last("step")
    return _row(
        "Stage 2, Self-Improvement",
        run,
        iterations=iterations,
        updates=iterations * run.updates_per_iteration,
        episodes=run.last("practice/episodes"),
        steps=run.last("practice/env_steps"),
        outside=float(run.series("practice/actions_outside").sum()),
        seconds=_seconds(run),
    )


def _cost_of_evaluation(run: RunData) -> list[list[Html]]:
    if run.evaluated is None:
        return []
    evaluation = run.evaluated.evaluation
    steps = sum(result.num_steps for result in evaluation.results)
    episodes, seconds = len(evaluation.results), evaluation.seconds
    outside = number(evaluation.actions_outside)
    return [
        _row("Evaluation", run, episodes=episodes, steps=steps, outside=outside, seconds=seconds)
    ]


def _row(
    stage: str,
    run: RunData,
    *,
    iterations: float = np.nan,
    updates: float = np.nan,
    episodes: float = np.nan,
    steps: float = np.nan,
    outside: float = np.nan,
    seconds: float = np.nan,
) -> list[Html]:
    counts = [text(whole(value)) for value in (iterations, updates, episodes, steps, outside)]
    rate = steps / seconds if seconds > 0 else np.nan
    return [text(stage), text(run.name), *counts, text(decimal(seconds)), text(whole(rate))]


def _seconds(run: RunData) -> float:
    return run.last("time/elapsed_s")
