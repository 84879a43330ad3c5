"""The answer first: alarms, success before and after practice, and what it took."""

from collections.abc import Sequence

import numpy as np

from nearer.core.errors import ConfigError
from nearer.evaluation.success import Comparison, Evaluation, compare
from nearer.reporting.html.markup import (
    NOTHING,
    Html,
    decimal,
    interval,
    join,
    missing,
    paragraph,
    percent,
    probability,
    rate_cell,
    section,
    table,
    tag,
    text,
    whole,
)
from nearer.reporting.html.run_data import Report, RunFacts, StageTwo
from nearer.reporting.html.svg import STAGE_1, stage_two_colour

IMPROVE = "nearer improve --run RUN --env ID"
SFT = "nearer sft --data DATASET"
ADD_STAGE_ONE = "nearer report STAGE_1_RUN STAGE_2_RUN"


def alarms(report: Report) -> Html:
    """Return a red banner with the latest alarm of every run that has one."""
    banners = [
        tag(
            "div",
            tag("strong", text(f"Alarm in {run.name}: ")),
            text(run.alarms[-1][1]),
            tag("small", text(_how_often(run))),
            css="alarm",
            role="alert",
        )
        for run in report.all_facts
        if run.alarms
    ]
    return join(*banners)


def headline(report: Report) -> Html:
    """Return success before and after practice, and what it took."""
    if not report.stage_two:
        before = [
            tag("div", _success(one.facts, 1, STAGE_1), css="pair") for one in report.stage_one
        ]
        how = missing("Nothing has practised yet; let the policy practise with ", IMPROVE, ".")
        return section("headline", "Success before practice", *before, how)
    title = "Success before and after practice"
    run, *others = report.stage_two
    if others:
        return section("headline", title, _table(report.stage_two))
    return section("headline", title, _before_and_after(run), _stats(run), _paired(run))


def evaluate_command(run: RunFacts) -> str:
    """Return the command that evaluates a run, with its env where the run names one."""
    env = run.settings.get("env") or run.settings.get("calibration.env") or "ID"
    return f"nearer eval --checkpoint {run.root} --env {env}"


def _table(runs: Sequence[StageTwo]) -> Html:
    """Return success before and after practice, one run a line."""
    head = (
        "Stage-2 run",
        "Stage 1, 95 % interval",
        "Stage 2, 95 % interval",
        "Mean episode, steps",
        "Practised episodes",
        "Only Stage 2 / 1 solved",
    )
    return table(head, [_table_row(run) for run in runs])


def _table_row(run: StageTwo) -> list[Html]:
    before = run.before.facts if run.before else None
    pair = [one.evaluated if one else None for one in (before, run.facts)]
    lengths = [decimal(one.evaluation.mean_length) if one else "–" for one in pair]
    return [
        tag("b", text(run.facts.name), style=f"color:{stage_two_colour(run.index)}"),
        *(rate_cell(one.evaluation.success) if one else text("not evaluated") for one in pair),
        text(" → ".join(lengths)),
        text(whole(run.facts.last("practice/episodes"))),
        _solved_cell(_compared(run)),
    ]


def _solved_cell(found: Comparison | str | None) -> Html:
    if not isinstance(found, Comparison):
        return text("–")
    low, high = found.steps_saved_ci95
    saved = f"{decimal(found.steps_saved)} ({decimal(low)} to {decimal(high)}) steps saved"
    solved = f"{found.wins:,} / {found.losses:,}, {probability(found.p_value)}"
    return join(text(solved), tag("small", text(saved)))


def _how_often(run: RunFacts) -> str:
    count, first = len(run.alarms), run.alarms[0][0]
    times = "once, at" if count == 1 else f"{count} times, first at"
    return f" Raised {times} iteration {first}."


def _before_and_after(run: StageTwo) -> Html:
    before = run.before.facts if run.before else None
    arrow = tag("div", text("→"), css="arrow") if before else NOTHING
    return tag(
        "div",
        _success(before, 1, STAGE_1),
        arrow,
        _success(run.facts, 2, stage_two_colour(run.index)),
        css="pair",
    )


def _success(run: RunFacts | None, stage: int, colour: str) -> Html:
    """Return the success rate of a run in large letters, or which command measures it."""
    name = f"Stage {stage}: {run.name}" if run else f"Stage {stage}"
    label = tag("p", text(name), css="stage", style=f"color:{colour}")
    if run is None:
        return tag("div", label, missing("Not among these runs; add it: ", ADD_STAGE_ONE, "."))
    if run.evaluated is None:
        return tag(
            "div", label, missing("Not evaluated yet; measure it: ", evaluate_command(run), ".")
        )
    rate = run.evaluated.evaluation.success
    value = tag("p", text(percent(rate.value)), css="value", style=f"color:{colour}")
    return tag("div", label, value, paragraph(interval(rate), "range"))


def _stats(run: StageTwo) -> Html:
    before = run.before.facts if run.before else None
    evaluations = [
        (name, one.evaluated.evaluation)
        for name, one in (("Stage 1", before), ("Stage 2", run.facts))
        if one is not None and one.evaluated is not None
    ]
    steps = whole(run.facts.last("practice/env_steps"))
    return tag(
        "div",
        _stat(
            "Mean episode, control steps",
            " → ".join(decimal(one.mean_length) for _, one in evaluations) or "–",
            "; ".join(f"{name}: {_length_interval(one)}" for name, one in evaluations),
        ),
        _stat(
            "Episodes practised",
            whole(run.facts.last("practice/episodes")),
            f"{steps} control steps",
        ),
        _training(run),
        css="stats",
    )


def _training(run: StageTwo) -> Html:
    """Return the seconds of everything that was learned, by name."""
    parts = {"Stage 2": run.facts.last("time/elapsed_s")}
    if run.before:
        parts = {"Stage 1": run.before.facts.last("time/elapsed_s"), **parts}
        if np.isfinite(run.before.seeing_s):
            parts = {"seeing": run.before.seeing_s, **parts}
    stages = " + ".join(parts)
    seconds = " + ".join(decimal(one) for one in parts.values())
    return _stat("Training, seconds", seconds, f"{stages}; evaluation not counted")


def _stat(title: str, value: str, remark: str) -> Html:
    return tag(
        "div",
        paragraph(title, "stage"),
        paragraph(value, "number"),
        paragraph(remark, "range"),
    )


def _length_interval(evaluation: Evaluation) -> str:
    """Return the 95 % interval of the mean length (normal approximation)."""
    steps = np.array([one.num_steps for one in evaluation.results], dtype=np.float64)
    if len(steps) < 2:
        return f"n = {len(steps)}"
    half = 1.96 * float(steps.std(ddof=1)) / len(steps) ** 0.5
    mean = float(steps.mean())
    return f"{decimal(mean - half)} to {decimal(mean + half)}"


def _compared(run: StageTwo) -> Comparison | str | None:
    """Return the comparison start by start; why there is none; None without two evaluations."""
    before = run.before.facts.evaluated if run.before else None
    after = run.facts.evaluated
    if before is None or after is None:
        return None
    try:
        return compare(before.evaluation, after.evaluation)
    except ConfigError as error:
        return f"No paired comparison: {error}."


def _paired(run: StageTwo) -> Html:
    found = _compared(run)
    if found is None or run.facts.evaluated is None:
        return NOTHING
    if isinstance(found, str):
        return paragraph(found, "missing")
    return _comparison(found, len(run.facts.evaluated.evaluation.results))


def _comparison(found: Comparison, starts: int) -> Html:
    low, high = found.steps_saved_ci95
    return tag(
        "p",
        text(f"Paired, on the same {starts:,} starts: "),
        tag("b", text(f"{found.wins:,} solved by Stage 2 only")),
        text(f", {found.losses:,} by Stage 1 only ({probability(found.p_value)}, sign test). "),
        text("Stage 2 saves "),
        tag("b", text(f"{decimal(found.steps_saved)} control steps")),
        text(f" a start (95 % interval {decimal(low)} to {decimal(high)}); "),
        text("a failure counts the time limit."),
        css="paired",
    )
