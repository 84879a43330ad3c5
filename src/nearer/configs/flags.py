"""What flags of several commands share."""

from collections.abc import Sequence
from typing import Annotated

import tyro

from nearer.core.errors import ConfigError
from nearer.runs.trackers import TrackerName

Flat = tyro.conf.arg(name="")
"""The settings of a nested config are flags of the command itself."""

NeededToStart = tyro.conf.arg(help_behavior_hint="(needed unless --resume)")
"""The default cannot start a run: a resumed run has its own value."""

Renames = tyro.conf.arg(metavar="[KEY=NAME ...]")
"""Keys that are read under other names, in this order."""

Track = Annotated[tuple[TrackerName, ...], tyro.conf.arg(metavar="[NAME ...]")]
"""Trackers of a run, besides metrics.jsonl."""

_IN_PARTS = ("rename", "env-kwargs")
"""Lists that may be given in parts: the flag several times, each time with some values."""


def gathered(arguments: Sequence[str]) -> list[str]:
    """Return arguments in which every flag stands once, with all the values of a list.

    Raises:
        ConfigError: a flag is given twice that has one value: one of the two would be lost.
    """
    first: list[str] = []
    values: dict[str, list[str]] = {}
    named = ""
    for argument in arguments:
        if not argument.startswith("--"):
            (values[named] if named else first).append(argument)
            continue
        flag, equals, value = argument.partition("=")
        named = flag.replace("_", "-")
        if named in values and named.rpartition(".")[2].removeprefix("--") not in _IN_PARTS:
            raise ConfigError(f"{named} must be given once, got it twice; leave one out")
        values.setdefault(named, []).extend([value] if equals else [])
    return first + [part for flag, given in values.items() for part in (flag, *given)]
