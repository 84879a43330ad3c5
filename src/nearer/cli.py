"""The command line: `nearer collect | sft | improve | eval | report | demo`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from nearer.commands import (
    collect_demonstrations,
    read_evaluation,
    run_eval,
    run_improve,
    run_sft,
)
from nearer.configs import CollectConfig, EvalConfig, ImproveConfig, ReportConfig, SFTConfig
from nearer.display import live
from nearer.errors import Interrupted, NearerError
from nearer.evaluate import compare
from nearer.recipes.point_mass import PointMassDemo, run_point_mass
from nearer.report.page import write_report

_INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The whole recipe, small, on two CPU cores.

    Attributes:
        which: the domain.
    """

    which: Annotated[
        PointMassDemo,
        tyro.conf.subcommand("point-mass"),
        tyro.conf.arg(name=""),
    ]


Command = (
    Annotated[CollectConfig, tyro.conf.subcommand("collect")]
    | Annotated[SFTConfig, tyro.conf.subcommand("sft")]
    | Annotated[ImproveConfig, tyro.conf.subcommand("improve")]
    | Annotated[EvalConfig, tyro.conf.subcommand("eval")]
    | Annotated[ReportConfig, tyro.conf.subcommand("report")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; what goes wrong is one sentence on stderr and exit code 1."""
    try:
        run(tyro.cli(Command, args=arguments, prog="nearer"))  # pyright: ignore
    except Interrupted as stopped:
        print(f"nearer: {stopped}", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except NearerError as error:
        print(f"nearer: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("nearer: stopped by Ctrl-C", file=sys.stderr)
        sys.exit(_INTERRUPTED)
