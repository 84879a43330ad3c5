"""What a command does, and what it says on the terminal when that is done."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from nearer.commands import (
    collect_demonstrations,
    read_evaluation,
    run_eval,
    run_improve,
    run_sft,
)
from nearer.commands.eval_reward import CalibrateConfig, run_calibrate
from nearer.commands.export import ExportConfig, run_export
from nearer.commands.label import LabelConfig, run_label
from nearer.commands.progress_bars import live
from nearer.commands.push import CardConfig, PushConfig, run_card, run_push
from nearer.commands.serve import ServeConfig, run_serve
from nearer.configs import (
    CollectConfig,
    DemoConfig,
    EvalConfig,
    ImproveConfig,
    ReportConfig,
    SFTConfig,
)
from nearer.evaluation.success import check_paired, compare
from nearer.models.pointing.pretraining.settings import PretrainConfig
from nearer.models.pointing.pretraining.train import pretrain
from nearer.reporting.reward_table import trust_table
from nearer.studies.demo import run_demo
from nearer.studies.headline import ReproduceConfig, headline_table, reproduce
from nearer.studies.point_mass import point_mass
from nearer.studies.pretraining_ablation import reproduce_pretraining
from nearer.studies.pretraining_results import pretraining_table
from nearer.studies.tabletop import tabletop

_RECIPES = {"tabletop": tabletop, "point-mass": point_mass}


def _collect(config: CollectConfig, console: Console) -> None:
    with live(console) as on_progress:
        kept = collect_demonstrations(config, on_progress)
    console.print(f"{kept} demonstrations of {config.episodes} tried: {config.out}")


def _sft(config: SFTConfig, console: Console) -> None:
    with live(console) as on_progress:
        out = run_sft(config, on_progress)
    console.print(
        f"Stage 1 is done: {out}; next: nearer improve --run {out} --env ID", soft_wrap=True
    )


def _improve(config: ImproveConfig, console: Console) -> None:
    with live(console) as on_progress:
        out = run_improve(config, on_progress)
    console.print(
        f"Stage 2 is done: {out}; next: nearer eval --checkpoint {out} --env ID", soft_wrap=True
    )


def _eval(config: EvalConfig, console: Console) -> None:
    against = None
    if config.against is not None:
        against = read_evaluation(config.against, config.env)
        check_paired(against, config.seed, config.episodes, config.max_steps)
    with live(console) as on_progress:
        evaluation = run_eval(config, on_progress)
    console.print(f"success {evaluation.success}, {evaluation.mean_length:.1f} steps")
    if evaluation.actions_outside:
        console.print(
            f"{evaluation.actions_outside:,} actions were beyond the limits of {config.env}, which "
            "clips or refuses such",
            soft_wrap=True,
        )
    if against is not None:
        paired = compare(against, evaluation)
        low, high = paired.steps_saved_ci95
        console.print(
            f"paired with {config.against}: {paired.wins} starts solved by this policy alone, "
            f"{paired.losses} by the other alone (p = {paired.p_value:.2g}); "
            f"{paired.steps_saved:.1f} [{low:.1f}, {high:.1f}] steps saved",
            soft_wrap=True,
        )


def _calibrate(config: CalibrateConfig, console: Console) -> None:
    with live(console) as on_progress:
        document = run_calibrate(config, on_progress)
    console.print(trust_table(document), soft_wrap=True, highlight=False, markup=False)
    console.print(f"all of it: {config.folder}", soft_wrap=True)


def _export(config: ExportConfig, console: Console) -> None:
    with live(console) as on_progress:
        done = run_export(config, on_progress)
    console.print(
        f"{done.episodes} episodes, {done.judged} with steps-to-go: {done.out}; see them with "
        f"rerun {done.out}",
        soft_wrap=True,
    )
    if not done.judged:
        console.print("nothing says how many steps were left; pass --model RUN for that")


def _demo(config: DemoConfig, console: Console) -> None:
    recipe = _RECIPES[config.which](config.out, config.seed, config.episodes, config.quick)
    with live(console) as on_progress:
        result = run_demo(recipe, on_progress)
    for line in result.lines():
        console.print(line, soft_wrap=True, highlight=False)


def _report(config: ReportConfig, console: Console) -> None:
    from nearer.reporting.html.page import write_report  # matplotlib takes its time to import

    out = config.out or config.runs[-1].parent / "report.html"
    console.print(f"report: {write_report(config.runs, out)}")


def _pretrain(config: PretrainConfig, console: Console) -> None:
    with live(console) as on_progress:
        pretrained = pretrain(config, on_progress)
    console.print(f"the sight is in {pretrained}", soft_wrap=True)


def _reproduce(config: ReproduceConfig, console: Console) -> None:
    with live(console) as on_progress:
        if config.which == "headline":
            made = headline_table(reproduce(config, on_progress))
        else:
            made = pretraining_table(reproduce_pretraining(config, on_progress))
    console.print(made, soft_wrap=True, highlight=False)


def _card(config: CardConfig, console: Console) -> None:
    card = run_card(config)
    print(f"card: {config.out}" if config.out else card)


def _push(config: PushConfig, console: Console) -> None:
    console.print(f"uploaded: {run_push(config)}", soft_wrap=True)


def _serve(config: ServeConfig, console: Console) -> None:
    run_serve(config, lambda line: console.print(line, soft_wrap=True, markup=False))


def _label(config: LabelConfig, console: Console) -> None:
    with live(console) as on_progress:
        labelled = run_label(config, on_progress)
    for line in labelled.lines():
        console.print(line, soft_wrap=True, highlight=False, markup=False)


OUTCOMES: Mapping[type, Callable[[Any, Console], None]] = {
    CollectConfig: _collect,
    SFTConfig: _sft,
    ImproveConfig: _improve,
    EvalConfig: _eval,
    ReportConfig: _report,
    DemoConfig: _demo,
    PretrainConfig: _pretrain,
    ReproduceConfig: _reproduce,
    CalibrateConfig: _calibrate,
    ExportConfig: _export,
    CardConfig: _card,
    PushConfig: _push,
    ServeConfig: _serve,
    LabelConfig: _label,
}
"""What runs a command, by the type of its config."""
