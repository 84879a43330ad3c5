"""The command line: parses, and says in one table what each command is.

A command is a row of `COMMANDS`: where its config is and where its `main(config, console)` is.
Before the arguments are parsed nothing is imported but the config of the one command that was
asked for, so that help comes at once; torch, simulators and figures come with `main`.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, NoReturn, Union, cast

from nearer.algorithm.torchrun import TOGETHER, check_alone, first_reports, is_follower, started_as
from nearer.configs.folders import Resumable, placed
from nearer.core.callbacks import interrupted_by_signals
from nearer.core.errors import Alarmed, Interrupted, NearerError, ReportedElsewhere
from nearer.core.memory import keep_freed_memory

_INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended
_ALARMED = 3  # of nearer alone: practice was ended by an alarm
_USAGE = 2  # what a shell expects where the arguments make no sense; tyro's as well
_DESCRIPTION = "Two-stage post-training of robot policies: fine-tune, then improve by practice."
_COMPLETION = ("--tyro-print-completion", "--tyro-write-completion")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A row of the table.

    Attributes:
        name: on the command line.
        summary: one line of `nearer --help`.
        config: module:class of its settings.
        main: module:function that takes a config and a console, and does it.
        help_config: module:function that returns the class whose help is shown, of the arguments;
            empty: the config's own.
    """

    name: str
    summary: str
    config: str
    main: str
    help_config: str = ""


COMMANDS = (
    Command(
        name="collect",
        summary="collect demonstrations from an env and its scripted demonstrator",
        config="nearer.configs.collect:CollectConfig",
        main="nearer.commands.collect:main",
    ),
    Command(
        name="sft",
        summary="Stage 1: fine-tune a model on demonstrations",
        config="nearer.configs.sft:SFTConfig",
        main="nearer.commands.sft:main",
        help_config="nearer.configs.sft:help_config",
    ),
    Command(
        name="improve",
        summary="Stage 2: let a policy practise, rewarded by its Stage-1 model",
        config="nearer.configs.improve:ImproveConfig",
        main="nearer.commands.improve:main",
        help_config="nearer.configs.improve:help_config",
    ),
    Command(
        name="watch",
        summary="watch and stop the robots of a run, in the browser",
        config="nearer.configs.watch:WatchConfig",
        main="nearer.commands.watch:main",
    ),
    Command(
        name="adapt",
        summary="adapt a model to another look of the scene, from unlabelled episodes",
        config="nearer.configs.adapt:AdaptConfig",
        main="nearer.commands.adapt:main",
    ),
    Command(
        name="eval",
        summary="measure a policy's success on seeded starts",
        config="nearer.configs.eval:EvalConfig",
        main="nearer.commands.eval:main",
    ),
    Command(
        name="report",
        summary="write one HTML page about runs",
        config="nearer.configs.report:ReportConfig",
        main="nearer.commands.report:main",
    ),
    Command(
        name="demo",
        summary="run a whole recipe, small, on two CPU cores",
        config="nearer.configs.demo:DemoConfig",
        main="nearer.studies.demo:main",
    ),
    Command(
        name="pretrain",
        summary="pretrain the built-in vision encoder on drawn scenes",
        config="nearer.configs.pretrain:PretrainConfig",
        main="nearer.commands.pretrain:main",
    ),
    Command(
        name="reproduce",
        summary="reproduce a result of the paper at our size",
        config="nearer.configs.reproduce:ReproduceConfig",
        main="nearer.studies.reproduce:main",
    ),
    Command(
        name="eval-reward",
        summary="measure a reward model and its success detector",
        config="nearer.configs.eval_reward:EvalRewardConfig",
        main="nearer.commands.eval_reward:main",
    ),
    Command(
        name="export",
        summary="write episodes with their steps-to-go as a rerun recording",
        config="nearer.configs.export:ExportConfig",
        main="nearer.commands.export:main",
    ),
    Command(
        name="card",
        summary="write the model card of a run",
        config="nearer.configs.push:CardConfig",
        main="nearer.commands.push:main_card",
    ),
    Command(
        name="push",
        summary="upload a run's model to the Hugging Face hub",
        config="nearer.configs.push:PushConfig",
        main="nearer.commands.push:main_push",
    ),
    Command(
        name="serve",
        summary="serve a policy to robots, by openpi's websocket protocol",
        config="nearer.configs.serve:ServeConfig",
        main="nearer.commands.serve:main",
    ),
    Command(
        name="label",
        summary="write steps-to-go and rewards beside a data set's frames",
        config="nearer.configs.label:LabelConfig",
        main="nearer.commands.label:main",
    ),
)
"""Every command, in the order of `nearer --help`."""


def main(
    arguments: Sequence[str] | None = None,
    while_loading: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Run one command; what goes wrong is one sentence on stderr.

    Args:
        arguments: of the command line; None: this process's.
        while_loading: surrounds what comes before the command begins: parsing and imports.
    """
    command, config = None, None
    try:
        with interrupted_by_signals():
            with while_loading():
                with first_reports():
                    command, config = parse(sys.argv[1:] if arguments is None else arguments)
                    if command.name not in TOGETHER:
                        check_alone()
                run = named(command.main)
                from rich.console import Console

                console = Console(quiet=is_follower(), markup=False)  # paths may hold brackets
                keep_freed_memory()
            run(config, console)
    except Interrupted as stopped:
        _fail(str(stopped), _INTERRUPTED)
    except Alarmed as alarm:
        _fail(str(alarm), _ALARMED)
    except ReportedElsewhere:
        # Not a failure: torchrun would end the process that is about to say what went wrong.
        sys.exit(0)
    except NearerError as error:
        if os.environ.get("NEARER_TRACEBACK"):
            traceback.print_exc()
        _fail(str(error), 1)
    except BrokenPipeError:
        # Whoever reads, such as head, has seen enough; flushing at exit would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt as stopped:
        by = str(stopped) or "Ctrl-C"
        _fail(f"stopped by {by}; {_what_next(command, config)}", _INTERRUPTED)


def parse(arguments: Sequence[str]) -> tuple[Command, Any]:
    """Return the command that the arguments ask for, and its config with a folder of its own.

    Raises:
        ConfigError: an impossible value, or `--resume` with a flag that would change the run.
        SystemExit: help or version were asked for, or there is no such command or flag.
    """
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(_help(), flush=True)
        sys.exit(0)
    if name == "--version":
        print(f"nearer {_version()}", flush=True)
        sys.exit(0)
    if name in _COMPLETION:
        _complete(arguments)
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        _fail(_unknown(name), _USAGE)
    return command, _config(command, arguments[1:])


def named(place: str) -> Any:
    """Return what stands at module:name, imported now."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _config(command: Command, flags: Sequence[str]) -> Any:
    """Return the config that flags ask for; a run that is continued has the one it was saved with.

    Raises:
        ConfigError: an impossible value, or `--resume` with a flag that would change the run.
    """
    from nearer.configs.flags import gathered

    flags = gathered(flags)
    kind = named(command.config)
    if command.help_config and set(flags) & {"-h", "--help"}:
        kind = named(command.help_config)(flags)
    config = placed(_read(kind, command, flags), command.name)
    if not (isinstance(config, Resumable) and config.resume):
        return config
    from nearer.commands.runs import saved_config
    from nearer.configs.saved import as_resumed, check_same

    saved = as_resumed(saved_config(cast(Any, config)), config.out)
    # Read once more, on top of the saved settings: now every flag that differs was given.
    given = _read(type(config), command, flags, default=saved)
    check_same(given, saved)
    return given


def _read(kind: type, command: Command, flags: Sequence[str], **options: Any) -> Any:
    import tyro

    return cast(Any, tyro.cli)(kind, args=flags, prog=f"nearer {command.name}", **options)


def _help() -> str:
    """Return what `nearer --help` prints: the table, without reading any config."""
    width = max(len(command.name) for command in COMMANDS)
    rows = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS]
    return "\n".join(
        [
            "usage: nearer COMMAND [OPTIONS]",
            "",
            _DESCRIPTION,
            "",
            "commands:",
            *rows,
            "",
            "nearer COMMAND --help            the options of one command",
            "nearer --version                 the version",
            f"nearer {_COMPLETION[0]} SHELL",
            "                                 a completion script for bash or zsh",
        ]
    )


def _version() -> str:
    from importlib.metadata import version

    return version("nearer")


def _unknown(name: str) -> str:
    """Return the sentence for a command that does not exist."""
    from difflib import get_close_matches

    names = [command.name for command in COMMANDS]
    close = get_close_matches(name, names, n=1)
    advice = f"did you mean {close[0]}?" if close else "see nearer --help"
    return f"the command must be one of {', '.join(names)}, got {name or 'none'}; {advice}"


def _complete(arguments: Sequence[str]) -> NoReturn:
    """Print or write tyro's completion script for all commands; reads every config."""
    import tyro

    shell = arguments[1] if len(arguments) > 1 else "none"
    if shell not in ("bash", "zsh"):
        _fail(f"the shell must be bash or zsh, got {shell}; name one of them", _USAGE)
    kinds = tuple(
        Annotated[named(command.config), tyro.conf.subcommand(command.name)] for command in COMMANDS
    )
    union = Union[kinds]  # noqa: UP007, since `|` takes no tuple
    cast(Any, tyro.cli)(union, args=arguments, prog="nearer", description=_DESCRIPTION)
    sys.exit(0)


def _what_next(command: Command | None, config: Any) -> str:
    if command and isinstance(config, Resumable) and (config.out / "run.json").exists():
        from nearer.configs.saved import processes_of

        start = started_as(command.name, processes_of(cast(Any, config)))
        return f"continue with {start} --resume --out {config.out}"
    return "what was finished is written, run the command again for the rest"


def _fail(sentence: str, code: int) -> NoReturn:
    print(f"nearer: {sentence}", file=sys.stderr)
    sys.exit(code)
