"""The top of the page: alarms, success before and after practice, episodes and time needed."""

from collections.abc import Sequence

import numpy as np

from nearer.core.errors import ConfigError
from nearer.evaluation.success import Comparison, Evaluation, compare
from nearer.reporting.html.colours import STAGE_1, stage_two_colour
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
from nearer.reporting.html.run_data import Report, RunData, StageTwo
from nearer.reporting.html.suggested_commands import ADD_STAGE_ONE, IMPROVE


def alarms(report: Report) -> Html:
    """Return a red banner with the latest alarm of every run that has one."""
    banners = [
        tag(
            "div",
            tag("strong", text(f"Alarm in run {run.name}: ")),
            text(run.alarms[-1][1]),
            tag("small", text(_how_often(run) + _what_it_did(run))),
            css="alarm",
            role="alert",
        )
        for run in report.runs
        if run.alarms
    ]
    return join(*banners)


def summary(report: Report) -> Html:
    """Return success before and after practice, episodes practised and training time."""
    if not report.stage_two:
        before = [tag("div", _success(run, 1, STAGE_1), css="pair") for run in report.stage_one]
        how = missing("No Stage-2 run on this page; practise with ", IMPROVE, ".")
        return section("summary", "Success before practice", *before, how)
    title = "Success before and after practice"
    run, *others = report.stage_two
    if others:
        return section("summary", title, _table(report.stage_two))
    return section("summary", title, _before_and_after(run), _stats(run), _paired(run))


def no_rollouts(run: RunData) -> Html:
    """Return the sentence for a run without an evaluation, with the command that makes one."""
    return missing(
        f"No rollouts of run {run.name} yet; make them with ", evaluate_command(run), "."
    )


def evaluate_command(run: RunData) -> str:
    """Return the command that evaluates a run, with the env that the run names, if any."""
    return f"nearer eval --checkpoint {run.shown_root} --env {run.env or 'ID'}"


def _table(runs: Sequence[StageTwo]) -> Html:
    """Return success before and after practice as a table with a row a Stage-2 run."""
    head = (
        "Stage-2 run",
        "Stage 1, 95 % interval",
        "Stage 2, 95 % interval",
        "Mean episode length, control steps",
        "Episodes practised",
        "Starts solved only by Stage 2 / only by Stage 1",
    )
    return table(head, [_table_row(run) for run in runs])


def _table_row(run: StageTwo) -> list[Html]:
    pair = [each.evaluated if each else None for each in (run.before, run)]
    lengths = [decimal(each.evaluation.mean_length) if each else "–" for each in pair]
    return [
        tag("b", text(run.name), style=f"color:{stage_two_colour(run.index)}"),
        *(rate_cell(each.evaluation.success) if each else text("not evaluated") for each in pair),
        text(" → ".join(lengths)),
        text(whole(run.last("practice/episodes"))),
        _solved_cell(_comparison_of(run)),
    ]


def _solved_cell(comparison: Comparison | str | None) -> Html:
    if not isinstance(comparison, Comparison):
        return text("–")
    low, high = comparison.steps_saved_ci95
    saved = f"{decimal(comparison.steps_saved)} ({decimal(low)} to {decimal(high)}) steps saved"
    solved = f"{comparison.wins:,} / {comparison.losses:,}, {probability(comparison.p_value)}"
    return join(text(solved), tag("small", text(saved)))


def _how_often(run: RunData) -> str:
    count, first = len(run.alarms), run.alarms[0][0]
    times = "once, at" if count == 1 else f"{count} times, first at"
    return f" Raised {times} iteration {first}."


def _what_it_did(run: RunData) -> str:
    """Return whether an alarm ended practice, since then ground truth had a say in the run."""
    stop = run.header.alarm
    if stop is None:
        return " Practice went on." if run.header.command == "improve" else ""
    chosen = ", and the last policy before it is the run's" if stop.kept else ""
    return (
        f" It ended practice{chosen}: the audits read ground truth or a person's answers, practice "
        "itself does not."
    )


def _before_and_after(run: StageTwo) -> Html:
    arrow = tag("div", text("→"), css="arrow") if run.before else NOTHING
    return tag(
        "div",
        _success(run.before, 1, STAGE_1),
        arrow,
        _success(run, 2, stage_two_colour(run.index)),
        css="pair",
    )


def _success(run: RunData | None, stage: int, colour: str) -> Html:
    """Return the success rate of a run in large type, or the command that measures it."""
    name = f"Stage {stage}: {run.name}" if run else f"Stage {stage}"
    label = tag("p", text(name), css="stage", style=f"color:{colour}")
    if run is None:
        return tag(
            "div",
            label,
            missing("The Stage-1 run is not on this page; add it with ", ADD_STAGE_ONE, "."),
        )
    if run.evaluated is None:
        return tag(
            "div",
            label,
            missing("Not evaluated yet; evaluate it with ", evaluate_command(run), "."),
        )
    rate = run.evaluated.evaluation.success
    value = tag("p", text(percent(rate.value)), css="value", style=f"color:{colour}")
    return tag("div", label, value, paragraph(interval(rate), "range"))


def _stats(run: StageTwo) -> Html:
    evaluations = [
        (name, each.evaluated.evaluation)
        for name, each in (("Stage 1", run.before), ("Stage 2", run))
        if each is not None and each.evaluated is not None
    ]
    steps = whole(run.last("practice/env_steps"))
    return tag(
        "div",
        _stat(
            "Mean episode length, control steps",
            " → ".join(decimal(evaluation.mean_length) for _, evaluation in evaluations) or "–",
            _length_intervals(evaluations),
        ),
        _stat(
            "Episodes practised",
            whole(run.last("practice/episodes")),
            f"{steps} control steps",
        ),
        _training(run),
        css="stats",
    )


def _training(run: StageTwo) -> Html:
    """Return the seconds of training: vision encoder, Stage 1, Stage 2."""
    parts = {"Stage 2": run.last("time/elapsed_s")}
    if run.before:
        parts = {"Stage 1": run.before.last("time/elapsed_s"), **parts}
        if np.isfinite(run.before.encoding_s):
            parts = {"vision encoder": run.before.encoding_s, **parts}
    stages = " + ".join(parts)
    values = " + ".join(decimal(seconds, 0) for seconds in parts.values())
    return _stat("Training time, seconds", values, f"{stages}; evaluation is not counted")


def _stat(title: str, value: str, remark: str) -> Html:
    return tag(
        "div",
        paragraph(title, "stage"),
        paragraph(value, "number"),
        paragraph(remark, "range"),
    )


def _length_intervals(evaluations: Sequence[tuple[str, Evaluation]]) -> str:
    if not evaluations:
        return ""
    intervals = [f"{name} {_length_interval(evaluation)}" for name, evaluation in evaluations]
    return f"95 % interval: {'; '.join(intervals)}"


def _length_interval(evaluation: Evaluation) -> str:
    """Return the 95 % interval of the mean length (normal approximation)."""
    steps = np.array([result.num_steps for result in evaluation.results], dtype=np.float64)
    if len(steps) < 2:
        return f"unknown, n = {len(steps)}"
    half = 1.96 * float(steps.std(ddof=1)) / len(steps) ** 0.5
    mean = float(steps.mean())
    return f"{decimal(mean - half)} to {decimal(mean + half)}"


def _comparison_of(run: StageTwo) -> Comparison | str | None:
    """Return the paired comparison, or why there is none; None without two evaluations."""
    before = run.before.evaluated if run.before else None
    after = run.evaluated
    if before is None or after is None:
        return None
    try:
        return compare(before.evaluation, after.evaluation)
    except ConfigError as error:
        return f"No paired comparison: {error}."


def _paired(run: StageTwo) -> Html:
    comparison = _comparison_of(run)
    if comparison is None or run.evaluated is None:
        return NOTHING
    if isinstance(comparison, str):
        return paragraph(comparison, "missing")
    return _comparison_words(comparison, len(run.evaluated.evaluation.results))


def _comparison_words(comparison: Comparison, starts: int) -> Html:
    low, high = comparison.steps_saved_ci95
    return tag(
        "p",
        text(f"Paired comparison on the same {starts:,} starts: "),
        tag("b", text(f"{comparison.wins:,} solved only by Stage 2")),
        text(f", {comparison.losses:,} only by Stage 1 "),
        text(f"({probability(comparison.p_value)}, sign test). Stage 2 saves "),
        tag("b", text(f"{decimal(comparison.steps_saved)} control steps")),
        text(f" an episode (95 % interval {decimal(low)} to {decimal(high)}), where a failed "),
        text("episode counts as the time limit."),
        css="paired",
    )
