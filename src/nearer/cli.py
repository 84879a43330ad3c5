"""The command line: `nearer collect | sft | improve | eval | report | demo | pretrain | ...`."""

import os
import sys
import traceback
from collections.abc import Sequence
from copy import copy
from dataclasses import fields, make_dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, cast, get_args

import tyro
from rich.console import Console

from nearer.commands import (
    collect_demonstrations,
    read_evaluation,
    run_eval,
    run_improve,
    run_sft,
    saved_config,
)
from nearer.commands.label import LabelConfig, run_label
from nearer.commands.serve import ServeConfig, run_serve
from nearer.configs import (
    MODEL_SETTINGS,
    CollectConfig,
    Config,
    DemoConfig,
    EvalConfig,
    ImproveConfig,
    ReportConfig,
    SFTConfig,
    as_resumed,
    check_same,
    settings_of,
)
from nearer.demo import run_demo
from nearer.display import live
from nearer.errors import ConfigError, Interrupted, NearerError, ToldElsewhere
from nearer.evaluate import check_paired, compare
from nearer.models.pointing.pretrain import PretrainConfig, pretrain
from nearer.processes import check_alone, first_tells, follows, started_as
from nearer.recipes.point_mass import point_mass
from nearer.recipes.tabletop import tabletop
from nearer.reproduce import ReproduceConfig, headline_table, reproduce

_RECIPES = {"tabletop": tabletop, "point-mass": point_mass}
_cli = cast(Any, tyro.cli)
_INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended

Command = (
    Annotated[CollectConfig, tyro.conf.subcommand("collect")]
    | Annotated[SFTConfig, tyro.conf.subcommand("sft")]
    | Annotated[ImproveConfig, tyro.conf.subcommand("improve")]
    | Annotated[EvalConfig, tyro.conf.subcommand("eval")]
    | Annotated[ReportConfig, tyro.conf.subcommand("report")]
    | Annotated[DemoConfig, tyro.conf.subcommand("demo")]
    | Annotated[PretrainConfig, tyro.conf.subcommand("pretrain")]
    | Annotated[ReproduceConfig, tyro.conf.subcommand("reproduce")]
    | Annotated[ServeConfig, tyro.conf.subcommand("serve")]
    | Annotated[LabelConfig, tyro.conf.subcommand("label")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; what goes wrong is one sentence on stderr."""
    console = Console(quiet=follows())
    config = None
    try:
        with first_tells():
            config = parse(sys.argv[1:] if arguments is None else arguments)
            if not isinstance(config, SFTConfig):
                check_alone()
        run(config, console)
    except Interrupted as stopped:
        _fail(str(stopped), _INTERRUPTED)
    except ToldElsewhere:
        # Not a failure: torchrun would end the process that is about to tell.
        sys.exit(0)
    except NearerError as error:
        if os.environ.get("NEARER_TRACEBACK"):
            traceback.print_exc()
        _fail(str(error), 1)
    except BrokenPipeError:
        # Whoever reads, such as head, has seen enough; flushing at exit would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _fail(f"stopped by Ctrl-C; {_what_next(config)}", _INTERRUPTED)


def parse(arguments: Sequence[str]) -> Any:
    """Return the config of the command that the arguments ask for, with a folder of its own.

    Raises:
        ConfigError: an impossible value, or `--resume` with a flag that would change the run.
    """
    description = "Robots that get better by practising."
    after = dict(zip(arguments, [*arguments[1:], ""], strict=True))
    named = settings_of(after.get("--model", SFTConfig().model))
    asked = _help_with(named) if set(arguments) & {"-h", "--help"} else Command
    config = _cli(asked, args=arguments, prog="nearer", description=description)
    match config:
        case SFTConfig():
            config = _placed(config, "sft", Path(config.model).name)
            return _continued(config, arguments) if config.resume else config
        case ImproveConfig():
            config = _placed(config, "improve", config.run.name)
            return _continued(config, arguments) if config.resume else config
        case DemoConfig():
            return _placed(config, "demo", config.which)
        case _:
            return config


@cache  # tyro remembers classes by their address, so they must stay
def _help_with(kind: str) -> Any:
    """Return the commands so that help is short: common settings, or those of a kind of model."""
    hidden = {name for name in MODEL_SETTINGS if name != kind}
    hidden |= set() if kind == "vla" else {"training", "calibration"}
    shown = [
        (one.name, tyro.conf.Suppress[one.type] if one.name in hidden else one.type, copy(one))
        for one in fields(SFTConfig)
    ]
    doc = {"__doc__": SFTConfig.__doc__}
    short = make_dataclass("SFTConfig", shown, kw_only=True, namespace=doc)
    sft = Annotated[short, tyro.conf.subcommand("sft")]
    commands = (sft if get_args(one)[0] is SFTConfig else one for one in get_args(Command))
    return Union[*commands]


def _continued(config: Config, arguments: Sequence[str]) -> Config:
    """Return the settings of the run that `--resume` continues."""
    saved = as_resumed(saved_config(config), config.out)
    # Read once more, on top of the saved settings: now every flag that differs was given.
    given = _cli(type(config), args=arguments[1:], default=saved)
    check_same(given, saved)
    return given


def _what_next(config: Any) -> str:
    if isinstance(config, SFTConfig | ImproveConfig) and (config.out / "run.json").exists():
        sft = isinstance(config, SFTConfig)
        command = started_as(config.training.processes) if sft else "nearer improve"
        return f"continue with {command} --resume --out {config.out}"
    return "what was finished is written, run the command again for the rest"


def run(config: Any, console: Console) -> None:
    """Run the command that a config belongs to."""
    match config:
        case CollectConfig():
            _collect(config, console)
        case SFTConfig():
            _sft(config, console)
        case ImproveConfig():
            _improve(config, console)
        case EvalConfig():
            _eval(config, console)
        case ReportConfig():
            from nearer.report.page import write_report  # matplotlib takes its time to import

            out = config.out or config.runs[-1].parent / "report.html"
            console.print(f"report: {write_report(config.runs, out)}")
        case DemoConfig():
            _demo(config, console)
        case PretrainConfig():
            with live(console) as watch:
                pretrained = pretrain(config, watch)
            console.print(f"the sight is in {pretrained}", soft_wrap=True)
        case ReproduceConfig():
            with live(console) as watch:
                measured = reproduce(config, watch)
            console.print(headline_table(measured), soft_wrap=True, highlight=False)
        case LabelConfig():
            with live(console) as watch:
                labelled = run_label(config, watch)
            console.print(
                "\n".join(labelled.lines()), soft_wrap=True, highlight=False, markup=False
            )
        case ServeConfig():
            run_serve(config, lambda line: console.print(line, soft_wrap=True, markup=False))
        case _:
            raise AssertionError(f"no command for {type(config).__name__}")


def _collect(config: CollectConfig, console: Console) -> None:
    with live(console) as watch:
        kept = collect_demonstrations(config, watch)
    console.print(f"{kept} demonstrations of {config.episodes} tried: {config.out}")


def _sft(config: SFTConfig, console: Console) -> None:
    with live(console) as watch:
        out = run_sft(config, watch)
    console.print(
        f"Stage 1 is done: {out}; next: nearer improve --run {out} --env ID", soft_wrap=True
    )


def _improve(config: ImproveConfig, console: Console) -> None:
    with live(console) as watch:
        out = run_improve(config, watch)
    console.print(
        f"Stage 2 is done: {out}; next: nearer eval --checkpoint {out} --env ID", soft_wrap=True
    )


def _eval(config: EvalConfig, console: Console) -> None:
    against = None
    if config.against is not None:
        against = read_evaluation(config.against, config.env)
        check_paired(against, config.seed, config.episodes, config.max_steps)
    with live(console) as watch:
        evaluation = run_eval(config, watch)
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
            f"{paired.steps_saved:.1f} [{low:.1f}, {high:.1f}] steps saved"
        )


def _demo(config: DemoConfig, console: Console) -> None:
    recipe = _RECIPES[config.which](config.out, config.seed, config.episodes, config.quick)
    with live(console) as watch:
        result = run_demo(recipe, watch)
    for line in result.lines():
        console.print(line, soft_wrap=True, highlight=False)


Placed = TypeVar("Placed", SFTConfig, ImproveConfig, DemoConfig)


def _placed(config: Placed, command: str, name: str) -> Placed:
    """Return the config with a folder of its own, unless the user named one."""
    if config.out != Path("outputs"):
        return config
    if not isinstance(config, DemoConfig) and config.resume:
        raise ConfigError("--resume must come with the run's folder, got none; pass --out RUN")
    folder = datetime.now().strftime(f"%Y-%m-%d/%H-%M-%S_{name}")
    return replace(config, out=config.out / command / folder)


def _fail(sentence: str, code: int) -> None:
    print(f"nearer: {sentence}", file=sys.stderr)
    sys.exit(code)
