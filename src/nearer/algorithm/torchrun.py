"""Which of torchrun's processes this one is, by the variables that torchrun sets; no torch."""

import os
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from nearer.algorithm.sft_settings import Kind
from nearer.core.errors import ConfigError, NearerError, ReportedElsewhere

TOGETHER = ("sft", "improve")
"""The commands that torchrun may start."""


def started_as(command: str, kind: Kind) -> str:
    """Return how a command of nearer was started, for advice."""
    if world_size() == 1:
        return f"nearer {command}"
    here = variable("LOCAL_WORLD_SIZE", world_size())
    return f"torchrun --nproc-per-node {here} -m -- nearer {command} --processes {kind}"


def is_follower() -> bool:
    """Tell whether torchrun started this process, and it is not the first one."""
    return world_size() > 1 and variable("RANK", 0) > 0


def check_alone() -> None:
    """Raise ConfigError if torchrun started several processes."""
    if world_size() > 1:
        raise ConfigError(
            f"torchrun must start nearer {' or nearer '.join(TOGETHER)}, got {world_size()} "
            "processes; start this one without torchrun"
        )


@contextmanager
def first_reports() -> Generator[None, None, None]:
    """Let only the first process say what goes wrong, or print, where all do the same."""
    if not is_follower():
        yield
        return
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            yield
    except (NearerError, SystemExit) as error:
        raise ReportedElsewhere("the first process says what is wrong") from error


def variable(name: str, default: int) -> int:
    """Return a number that torchrun leaves in the environment, or the default."""
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else default


def world_size() -> int:
    """Return how many processes train together; 1 without torchrun."""
    return variable("WORLD_SIZE", 1)
