"""Sections on learning, losses, steps-to-go, success detector and predicted distributions.

Each shows figures, or the command that makes the data for them.
"""

from collections.abc import Callable

from nearer.evaluation.audit import pooled
from nearer.evaluation.calibration import PredictionExample
from nearer.evaluation.threshold import ThresholdChoice
from nearer.reporting.html import curves
from nearer.reporting.html.colours import FRAME, INK, STAGE_1, stage_two_colour
from nearer.reporting.html.detector_figures import (
    paint_calibration,
    paint_distribution,
    paint_precision_recall,
    paint_predicted,
    paint_thresholds,
    source_colour,
)
from nearer.reporting.html.markup import (
    Html,
    aside,
    decimal,
    grid,
    interval,
    join,
    legend,
    missing,
    panel,
    paragraph,
    percent,
    rate_cell,
    section,
    table,
    tag,
    text,
    whole,
)
from nearer.reporting.html.run_data import Report, StageOne, StageTwo
from nearer.reporting.html.suggested_commands import (
    AUDIT,
    FINISH_SFT,
    IMPROVE,
    LABEL_ROLLOUTS,
    SFT,
)
from nearer.reporting.html.svg import figure


def learning(report: Report) -> Html:
    """Return success, episode length and progress of Stage 2 against episodes practised."""
    runs = [run for run in report.stage_two if run.records]
    if not runs:
        how = missing("No Stage-2 run with a finished iteration; make one with ", IMPROVE, ".")
        return section("learning", "Learning curves", how)
    before = [run for run in report.stage_one if any(run is later.before for later in runs)]
    lead = (
        "Points at 0 episodes are Stage-1 policies. A Stage-2 evaluation stands at the number of "
        "episodes after which the run kept the evaluated checkpoint."
    )
    panels = grid(_success_panel(runs, before), _length_panel(runs, before), _progress_panel(runs))
    words = paragraph(lead, "lead")
    return section("learning", "Learning curves", words, *_runs_legend(runs), panels)


def losses(report: Report) -> Html:
    """Return the losses of Stage 1 and the checkpoints selected by them."""
    return _per_stage_one("losses", "Stage 1: losses", report, _losses_of)


def steps_to_go(report: Report) -> Html:
    """Return predicted against true steps-to-go of every Stage-1 run."""
    return _per_stage_one(
        "steps-to-go", "Steps-to-go: predicted against true", report, _steps_to_go_of
    )


def detector(report: Report) -> Html:
    """Return precision and recall of the success detector, by threshold and in practice."""
    title = "Success detector"
    groups: list[tuple[StageOne | None, list[StageTwo]]] = [
        (run, _practised_from(report, run)) for run in report.stage_one
    ]
    without_stage_one = _practised_from(report, None)
    if without_stage_one or not groups:
        groups.append((None, without_stage_one))
    parts: list[Html] = []
    for index, (run, practised) in enumerate(groups):
        if len(groups) > 1:
            name = run.name if run else "Stage-2 runs whose Stage-1 run is not on this page"
            parts.append(tag("h3", text(name), css="run"))
        parts.append(_detector_of(run, practised, f"detector-{index}"))
    return section("detector", title, *parts)


def distributions(report: Report) -> Html:
    """Return p(k | o_t, g) along a successful and a failed episode."""
    title = "Predicted distribution over steps-to-go along an episode"
    return _per_stage_one("distributions", title, report, _distributions_of)


def _per_stage_one(
    anchor: str, title: str, report: Report, content: Callable[[StageOne, str], Html]
) -> Html:
    """Return a section with the content of every Stage-1 run."""
    if not report.stage_one:
        how = missing("No Stage-1 run on this page; make one with ", SFT, " and add it.")
        return section(anchor, title, how)
    parts: list[Html] = []
    for index, run in enumerate(report.stage_one):
        if len(report.stage_one) > 1:
            parts.append(tag("h3", text(run.name), css="run"))
        parts.append(content(run, f"{anchor}-{index}"))
    return section(anchor, title, *parts)


def _mark_colour(runs: list[StageTwo]) -> str:
    """Return the colour of marks in a legend: that of the run, or ink where there are several."""
    return stage_two_colour(runs[0].index) if len(runs) == 1 else INK


def _success_panel(runs: list[StageTwo], before: list[StageOne]) -> Html:
    colour = _mark_colour(runs)
    paint = curves.paint_success(runs, before)
    return panel(
        "Success",
        figure("success", "Success against episodes practised", paint),
        "Bars are 95 % intervals; an audited point pools three audits. Evaluated and audited "
        "success is ground truth; detected success is what the success detector reports.",
        legend(("◆", INK, "evaluated"), ("●", colour, "audited"), ("─", colour, "detected")),
    )


def _length_panel(runs: list[StageTwo], before: list[StageOne]) -> Html:
    return panel(
        "Episode length",
        figure("length", "Episode length over practice", curves.paint_length(runs, before)),
        "Practised episodes end when the success detector fires, evaluated episodes at "
        "ground-truth success; all end at the time limit at the latest.",
        legend(("◆", INK, "evaluated"), ("━", _mark_colour(runs), "practised")),
    )


def _progress_panel(runs: list[StageTwo]) -> Html:
    colour = _mark_colour(runs)
    return panel(
        "Progress and return",
        figure("progress", "Progress and return over practice", curves.paint_progress(runs)),
        "Progress of an episode is d at its first minus d at its last observation. Progress that "
        "rises while success falls means that the policy exploits the reward model.",
        legend(("━", colour, "predicted progress of an episode"), ("╍", colour, "mean return")),
    )


def _runs_legend(runs: list[StageTwo]) -> list[Html]:
    """Return the legend of the Stage-2 runs, where there are several."""
    if len(runs) < 2:
        return []
    return [legend(*(("━", stage_two_colour(run.index), run.name) for run in runs))]


def _losses_of(run: StageOne, name: str) -> Html:
    if not run.records:
        return missing("No validation yet; train on with ", FINISH_SFT, ".")
    objectives = (
        ("Behavioural cloning", "loss_bc", "policy"),
        ("Steps-to-go", "loss_steps_to_go", "reward model"),
    )
    marks = (("━", STAGE_1, "held-out demonstrations"), ("━", FRAME, "training minibatch"))
    panels = [
        panel(
            title,
            figure(f"{name}-{metric}", title, curves.paint_loss(run, metric, selects=True)),
            "",
            legend(*marks, ("●", STAGE_1, use)),
        )
        for title, metric, use in objectives
    ]
    numbers = {
        f"Checkpoint of the {use}, {_rule(run, metric)}": _checkpoint_words(run, metric)
        for _, metric, use in objectives
    }
    words = f"{_policy_words(run)} {_reward_words(run)}"
    others = run.training.other_instructions
    if others:
        title, metric = "Instruction", "loss_instruction"
        drawn = figure(f"{name}-{metric}", title, curves.paint_loss(run, metric, selects=False))
        caption = "The instruction is predicted from the first and the last observation."
        panels.append(panel(title, drawn, caption, legend(*marks)))
        accuracy = run.last("sft/val_accuracy_instruction")
        numbers[f"Instruction chosen among {1 + others}, held-out accuracy"] = (
            f"{percent(accuracy)}, chance {percent(1 / (1 + others))}"
        )
        words += " The instruction objective does not select a checkpoint."
    return grid(*panels, aside(words, numbers))


def _rule(run: StageOne, metric: str) -> str:
    return "the last one" if run.takes_last(metric) else "lowest held-out loss"


def _policy_words(run: StageOne) -> str:
    if run.takes_last("loss_bc"):
        return (
            "The policy starts from the last checkpoint (policy_checkpoint = last): it may act "
            "better although its held-out cloning loss is higher."
        )
    return "The policy starts from the checkpoint with the lowest held-out cloning loss."


def _reward_words(run: StageOne) -> str:
    late = run.takes_last("loss_steps_to_go")
    which = "last checkpoint" if late else "checkpoint with the lowest held-out steps-to-go loss"
    return f"The {which} becomes the frozen reward model and success detector."


def _checkpoint_words(run: StageOne, metric: str) -> str:
    checkpoint = run.selected(metric)
    if checkpoint is None:
        return "not recorded"
    return f"{decimal(checkpoint.loss, 3)} nats at update {checkpoint.update:,}"


def _steps_to_go_of(run: StageOne, name: str) -> Html:
    result = run.calibration
    if result is None:
        return missing("Not measured yet; finish the run with ", FINISH_SFT, ".")
    error = result.reliability.mean_absolute_error_steps
    words = (
        "Where demonstrations take detours or differ in speed, the same observation occurs with "
        "different true values, so some error remains for any model; the calibration figure shows "
        "whether the predicted distribution covers it. The reward needs d only to decrease as "
        "the robot gets nearer to the goal."
    )
    numbers = {
        "Held-out frames": whole(result.reliability.num_frames),
        "Mean absolute error": f"{decimal(error)} control steps",
    }
    return grid(
        panel(
            "Predicted against true steps-to-go",
            figure(
                f"{name}-mean",
                "Predicted against true steps-to-go",
                paint_predicted(result.reliability),
            ),
            "The band is the middle 80 % of the predictions, held-out demonstrations.",
            legend(("━", STAGE_1, "mean"), ("▒", STAGE_1, "10 to 90 %"), ("╍", FRAME, "exact")),
        ),
        panel(
            "Calibration of the distribution",
            figure(
                f"{name}-rank",
                "Calibration of the distribution",
                paint_calibration(result.reliability.coverage),
            ),
            "Of a calibrated model a fraction q of the true values lies below the predicted "
            "q-quantile (the diagonal).",
            legend(("━", STAGE_1, "observed"), ("╍", FRAME, "calibrated")),
        ),
        aside(words, numbers),
    )


def _practised_from(report: Report, before: StageOne | None) -> list[StageTwo]:
    return [run for run in report.stage_two if run.before is before]


def _detector_of(run: StageOne | None, practised: list[StageTwo], name: str) -> Html:
    result = run.calibration if run else None
    audits = _audits_panel(practised, f"{name}-audits")
    if result is None:
        words = "No Stage-1 run with a calibrated detector here; finish one with "
        return join(missing(words, FINISH_SFT, "."), grid(audits))
    sources = [("━", source_colour(source), source) for source in result.curves]
    by_threshold = figure(
        f"{name}-s",
        "Precision and recall against the threshold s",
        paint_thresholds(result),
    )
    precision_recall = figure(
        f"{name}-pr", "Precision against recall", paint_precision_recall(result)
    )
    return join(
        grid(
            panel(
                "Precision and recall by threshold s",
                by_threshold,
                "Precision solid, recall dashed. The detector fires at the first observation with "
                f"d ≤ s; the vertical line is the chosen s = {result.threshold_steps:g}.",
                legend(*sources),
            ),
            panel(
                "Precision against recall",
                precision_recall,
                "Dots mark the chosen s. Beyond the bend s is so large that the detector fires "
                "before the goal is reached.",
                legend(*sources),
            ),
            audits,
        ),
        _threshold_table(result),
    )


def _threshold_table(result: ThresholdChoice) -> Html:
    head = (
        "Episodes",
        "Precision, 95 % interval",
        "Recall, 95 % interval",
        "Delay, control steps",
    )
    rows = [
        [
            text(source),
            rate_cell(detector.counts.precision),
            rate_cell(detector.counts.recall),
            text(decimal(detector.delay_steps) if detector.counts.num_correct_detections else "–"),
        ]
        for source, detector in result.at_threshold.items()
    ]
    words = (
        f"Chosen threshold s = {result.threshold_steps:g} control steps. How it was chosen: "
        f"{result.rule}."
    )
    return join(paragraph(words), table(head, rows))


def _audits_panel(practised: list[StageTwo], name: str) -> Html:
    """Return audited precision and recall over practice, as one cell of the grid."""
    audited = [run for run in practised if run.audits]
    if not audited:
        title = tag("h3", text("Audited in practice"))
        return tag("figure", title, missing("No audits yet; practise with ", AUDIT, "."))
    colour = _mark_colour(audited)
    return panel(
        "Audited in practice",
        figure(name, "Audited precision and recall", curves.paint_audits(audited)),
        "A point pools three audits; bars are 95 % intervals. " + _all_audits(audited),
        legend(("●", colour, "precision"), ("○", colour, "recall")),
    )


def _all_audits(audited: list[StageTwo]) -> str:
    """Return precision and recall over all audits, where there is one run."""
    if len(audited) > 1:
        return "Colours are as in the learning curves."
    total = pooled(audited[0].audits)
    return (
        f"All audits: precision {percent(total.precision.value)} ({interval(total.precision)}), "
        f"recall {percent(total.recall.value)} ({interval(total.recall)})."
    )


def _distributions_of(run: StageOne, name: str) -> Html:
    if run.calibration is None or not run.calibration.examples:
        return missing("No labelled rollouts to show; make them with ", LABEL_ROLLOUTS, ".")
    cells = [
        _distribution_panel(kind, example, f"{name}-{kind}")
        for kind, example in run.calibration.examples.items()
    ]
    words = (
        "Stronger colour is more probable; the line is the mean d. Along a successful episode the "
        "distribution moves down to 0; along a failed one it stays high. Two bands at one step "
        "are two possible outcomes that the model takes into account."
    )
    return grid(*cells, aside(words, {}))


def _distribution_panel(kind: str, example: PredictionExample, name: str) -> Html:
    title = {"good": "Successful episode", "bad": "Failed episode"}.get(kind, kind)
    if len(example.probabilities) < 2:
        words = "It succeeded at its first observation: there is nothing to show."
        return tag("figure", tag("h3", text(title)), paragraph(words, "missing"))
    start, end = example.steps_to_go[0], example.steps_to_go[-1]
    caption = (
        f"{len(example.probabilities) - 1} steps; d goes from {decimal(start)} to {decimal(end)}."
    )
    return panel(title, figure(name, title, paint_distribution(example)), caption)
