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

from nearer.algorithm.distributed import check_alone, first_reports, is_follower, started_as
from nearer.commands import (
    saved_config,
)
from nearer.commands.eval_reward import CalibrateConfig
from nearer.commands.export import ExportConfig
from nearer.commands.label import LabelConfig
from nearer.commands.push import CardConfig, PushConfig
from nearer.commands.serve import ServeConfig
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
from nearer.core.errors import ConfigError, Interrupted, NearerError, ReportedElsewhere
from nearer.models.pointing.pretraining.settings import PretrainConfig
from nearer.outcomes import OUTCOMES
from nearer.studies.headline import ReproduceConfig

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
    | Annotated[CalibrateConfig, tyro.conf.subcommand("calibrate")]
    | Annotated[ExportConfig, tyro.conf.subcommand("export")]
    | Annotated[CardConfig, tyro.conf.subcommand("card")]
    | Annotated[PushConfig, tyro.conf.subcommand("push")]
    | Annotated[ServeConfig, tyro.conf.subcommand("serve")]
    | Annotated[LabelConfig, tyro.conf.subcommand("label")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; what goes wrong is one sentence on stderr."""
    console = Console(quiet=is_follower(), markup=False)  # paths may hold brackets
    config = None
    try:
        with first_reports():
            config = parse(sys.argv[1:] if arguments is None else arguments)
            if not isinstance(config, SFTConfig):
                check_alone()
        OUTCOMES[type(config)](config, console)
    except Interrupted as stopped:
        _fail(str(stopped), _INTERRUPTED)
    except ReportedElsewhere:
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
