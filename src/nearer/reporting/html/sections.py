"""The evidence: a section a question, each with figures or the command that makes its data."""

from collections.abc import Callable

from nearer.evaluation.audit import pooled
from nearer.reporting.html import curves, detector_figures
from nearer.reporting.html.headline import IMPROVE, SFT
from nearer.reporting.html.markup import (
    Html,
    aside,
    decimal,
    grid,
    interval,
    join,
    key,
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
from nearer.reporting.html.run_data import (
    CalibrationResult,
    Example,
    Report,
    StageOne,
    StageTwo,
    number,
)
from nearer.reporting.html.svg import FRAME, INK, STAGE_1, picture, stage_two_colour

CALIBRATE = "nearer sft --resume --out RUN"
LABEL = "nearer sft --data DATASET --calibration.env ID"
AUDIT = "nearer improve --run RUN --env ID --audit-every 8"


def learning(report: Report) -> Html:
    """Return how Stage 2 learned: success, length, progress against episodes practised."""
    runs = [run for run in report.stage_two if run.facts.records]
    if not runs:
        how = missing("No Stage-2 run with a finished iteration; make one with ", IMPROVE, ".")
        return section("learning", "Learning curves", how)
    before = [run for run in report.stage_one if any(run is one.before for one in runs)]
    lead = (
        "The point at 0 episodes is the Stage-1 policy. The evaluated Stage-2 policy is the one "
        "the run kept, at the practice it had then."
    )
    panels = grid(_success_panel(runs, before), _length_panel(runs, before), _progress_panel(runs))
    words = paragraph(lead, "lead")
    return section("learning", "Learning curves", words, *_names_key(runs), panels)


def losses(report: Report) -> Html:
    """Return the losses of Stage 1 and the two checkpoints they chose."""
    return _per_stage_one("losses", "Stage 1: objectives", report, _losses_of)


def steps_to_go(report: Report) -> Html:
    """Return how predicted steps-to-go compare with true ones."""
    return _per_stage_one("steps-to-go", "Is steps-to-go right?", report, _steps_to_go_of)


def detector(report: Report) -> Html:
    """Return how the success detector does at every threshold, and in practice."""
    title = "The success detector"
    groups: list[tuple[StageOne | None, list[StageTwo]]] = [
        (run, _practised_from(report, run)) for run in report.stage_one
    ]
    orphans = _practised_from(report, None)
    if orphans or not groups:
        groups.append((None, orphans))
    parts: list[Html] = []
    for index, (run, practised) in enumerate(groups):
        if len(groups) > 1:
            name = run.facts.name if run else "of Stage-2 runs whose Stage-1 run is not here"
            parts.append(tag("h3", text(name), css="run"))
        parts.append(_detector_of(run, practised, f"detector-{index}"))
    return section("detector", title, *parts)


def distributions(report: Report) -> Html:
    """Return p(k | o_t, g) along a good and a bad episode."""
    title = "The distribution over steps-to-go along an episode"
    return _per_stage_one("distributions", title, report, _distributions_of)


def _per_stage_one(
    anchor: str, title: str, report: Report, content: Callable[[StageOne, str], Html]
) -> Html:
    """Return a section with the content of every Stage-1 run."""
    if not report.stage_one:
        how = missing("No Stage-1 run among these; make one with ", SFT, " and add it.")
        return section(anchor, title, how)
    parts: list[Html] = []
    for index, run in enumerate(report.stage_one):
        if len(report.stage_one) > 1:
            parts.append(tag("h3", text(run.facts.name), css="run"))
        parts.append(content(run, f"{anchor}-{index}"))
    return section(anchor, title, *parts)


def _key_colour(runs: list[StageTwo]) -> str:
    """Return the colour a key explains marks in: the run's own, or ink where there are several."""
    return stage_two_colour(runs[0].index) if len(runs) == 1 else INK


def _success_panel(runs: list[StageTwo], before: list[StageOne]) -> Html:
    colour = _key_colour(runs)
    paint = curves.paint_success(runs, before)
    return panel(
        "Success",
        picture("success", "Success against episodes practised", paint),
        "Bars are 95 % intervals. Audits are pooled by three; success is the simulator's, except "
        "where the detector's is named.",
        key(("◆", INK, "evaluated"), ("●", colour, "audited"), ("─", colour, "detected")),
    )


def _length_panel(runs: list[StageTwo], before: list[StageOne]) -> Html:
    return panel(
        "Episode length",
        picture("length", "Episode length over practice", curves.paint_length(runs, before)),
        "Practised episodes end when the detector fires, evaluated ones on true success; both "
        "at the time limit.",
        key(("◆", INK, "evaluated"), ("━", _key_colour(runs), "practised")),
    )


def _progress_panel(runs: list[StageTwo]) -> Html:
    marks = [("━", INK, "progress"), ("╍", INK, "return")] if len(runs) > 1 else []
    return panel(
        "Progress and return",
        picture("progress", "Progress and return over practice", curves.paint_progress(runs)),
        "Progress is d(first) − d(last) of an episode. Rising progress at falling success means "
        "that the reward is being exploited.",
        key(*marks),
    )


def _names_key(runs: list[StageTwo]) -> list[Html]:
    """Return the key that tells Stage-2 runs apart, where there are several."""
    if len(runs) < 2:
        return []
    return [key(*(("━", stage_two_colour(run.index), run.facts.name) for run in runs))]


def _losses_of(run: StageOne, name: str) -> Html:
    if not run.facts.records:
        return missing("No validation yet; train on with ", CALIBRATE, ".")
    objectives = (
        ("Behavioural cloning", "loss_bc", "policy"),
        ("Steps-to-go", "loss_steps_to_go", "reward model"),
    )
    marks = key(("━", STAGE_1, "held-out"), ("━", FRAME, "one minibatch of training"))
    panels = [
        panel(
            title,
            picture(f"{name}-{metric}", title, curves.paint_loss(run, metric, chosen)),
            "",
            marks,
        )
        for title, metric, chosen in objectives
    ]
    found = {
        f"{'Last' if run.takes_last(name) else 'Best held-out'}: {chosen}": _chosen_of(run, name)
        for _, name, chosen in objectives
    }
    words = f"{_policy_words(run)} {_reward_words(run)}"
    others = int(number(run.facts.settings.get("training.other_instructions", 0)))
    if others:
        title, metric = "Instruction", "loss_instruction"
        drawn = picture(f"{name}-{metric}", title, curves.paint_loss(run, metric, None))
        panels.append(panel(title, drawn, "From first and last frame.", marks))
        accuracy = run.facts.last("sft/val_accuracy_instruction")
        found[f"Instruction told from {others} others, held-out"] = (
            f"{percent(accuracy)}, by chance {percent(1 / (1 + others))}"
        )
        words += " The third objective chooses no checkpoint."
    return grid(*panels, aside(words, found))


def _policy_words(run: StageOne) -> str:
    if run.takes_last("loss_bc"):
        return (
            "The last checkpoint starts the policy, as this run was told: a late one may act "
            "better although its held-out cloning loss is worse."
        )
    return "The checkpoint with the best held-out cloning loss starts the policy."


def _reward_words(run: StageOne) -> str:
    late = run.takes_last("loss_steps_to_go")
    which = "last one" if late else "one with the best held-out steps-to-go loss"
    return f"The {which} becomes reward and success detector, and stays frozen."


def _chosen_of(run: StageOne, metric: str) -> str:
    chosen = run.chosen(metric)
    if chosen is None:
        return "not recorded"
    return f"{decimal(chosen.loss, 3)} nats at update {chosen.update:,}"


def _steps_to_go_of(run: StageOne, name: str) -> Html:
    result = run.calibration
    if result is None:
        return missing("Not calibrated yet; finish the run with ", CALIBRATE, ".")
    error = result.mean_absolute_error_steps
    words = (
        "Where demonstrations take detours or differ in speed, one observation has many true "
        "values: some error remains for any model, and reliability says whether the model knows "
        "it. The reward only needs d to fall where the robot gets nearer."
    )
    numbers = {
        "Held-out frames": whole(result.frames),
        "Mean absolute error": f"{decimal(error)} control steps",
    }
    return grid(
        panel(
            "Calibration",
            picture(
                f"{name}-mean", "Predicted against true", detector_figures.paint_predicted(result)
            ),
            "The band holds the middle 80 % of the predictions.",
        ),
        panel(
            "Reliability",
            picture(f"{name}-rank", "Reliability", detector_figures.paint_reliability(result)),
            "On the diagonal, the truth lies below the predicted q-quantile in a share q of cases.",
        ),
        aside(words, numbers),
    )


def _practised_from(report: Report, before: StageOne | None) -> list[StageTwo]:
    return [run for run in report.stage_two if run.before is before]


def _detector_of(run: StageOne | None, practised: list[StageTwo], name: str) -> Html:
    result = run.calibration if run else None
    audits = _audits_panel(practised, f"{name}-audits")
    if result is None:
        words = "No calibrated Stage-1 run here; finish one with "
        return join(missing(words, CALIBRATE, "."), grid(audits))
    sources = [("━", detector_figures.source_colour(source), source) for source in result.curves]
    thresholds = picture(f"{name}-s", "Against s", detector_figures.paint_thresholds(result))
    trade = picture(
        f"{name}-pr", "Recall, precision", detector_figures.paint_precision_recall(result)
    )
    return join(
        grid(
            panel(
                "Every threshold s",
                thresholds,
                "Precision solid, recall dashed. The detector fires at the first d ≤ s.",
                key(*sources),
            ),
            panel(
                "Precision against recall",
                trade,
                "Dots: the chosen s. Past the bend it fires before the goal is reached.",
                key(*sources),
            ),
            audits,
        ),
        _chosen_table(result),
    )


def _chosen_table(result: CalibrationResult) -> Html:
    head = (
        "Source",
        "Precision, 95 % interval",
        "Recall, 95 % interval",
        "Delay, control steps",
    )
    rows = [
        [
            text(found.source),
            rate_cell(found.precision),
            rate_cell(found.recall),
            text(decimal(found.delay_steps)),
        ]
        for found in result.chosen()
    ]
    words = f"s = {result.threshold_steps:g} control steps: {result.rule}."
    return join(paragraph(words), table(head, rows))


def _audits_panel(practised: list[StageTwo], name: str) -> Html:
    """Return audited precision and recall over practice, as one cell of the grid."""
    audited = [run for run in practised if run.audits]
    if not audited:
        title = tag("h3", text("Audited in practice"))
        return tag("figure", title, missing("No audits yet; practise with ", AUDIT, "."))
    colour = _key_colour(audited)
    return panel(
        "Audited in practice",
        picture(name, "Audited precision and recall", curves.paint_audits(audited)),
        "Pooled by three audits; bars are 95 % intervals. " + _all_audits(audited),
        key(("●", colour, "precision"), ("○", colour, "recall")),
    )


def _all_audits(audited: list[StageTwo]) -> str:
    """Return all audits as one precision and one recall, when they are of one run."""
    if len(audited) > 1:
        return "Colours are those of the learning curves."
    found = pooled(audited[0].audits)
    return (
        f"In all: precision {percent(found.precision.value)} ({interval(found.precision)}), "
        f"recall {percent(found.recall.value)} ({interval(found.recall)})."
    )


def _distributions_of(run: StageOne, name: str) -> Html:
    examples = run.calibration.examples if run.calibration else ()
    if not examples:
        return missing("No labelled rollouts to show; calibrate with ", LABEL, ".")
    cells = [_distribution_panel(one, f"{name}-{i}") for i, one in enumerate(examples)]
    words = (
        "Darker is more probable; the line is the expectation d. A good episode reads as a band "
        "that slides down to 0 steps; a stuck one stays up. Where the band splits, the "
        "model weighs two futures."
    )
    return grid(*cells, aside(words, {}))


def _distribution_panel(example: Example, name: str) -> Html:
    title = {"good": "A good episode", "bad": "A bad episode"}.get(example.name, example.name)
    if len(example.probabilities) < 2:
        words = "It was fulfilled at its first observation: there is nothing to follow."
        return tag("figure", tag("h3", text(title)), paragraph(words, "missing"))
    start, end = example.steps_to_go[0], example.steps_to_go[-1]
    caption = (
        f"{len(example.probabilities) - 1} steps; d goes from {decimal(float(start))} to "
        f"{decimal(float(end))}."
    )
    return panel(title, picture(name, title, detector_figures.paint_distribution(example)), caption)
