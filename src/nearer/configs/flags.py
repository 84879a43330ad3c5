"""What flags of several commands share."""

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import fields, make_dataclass
from typing import Annotated, Any

import tyro

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
    """Return arguments with the parts of such a list after its first flag.

    Of any other flag that is given twice the last counts, as everywhere.
    """
    current: list[str] = []
    parts, lists = [current], dict[str, list[str]]()
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        name = flag.replace("_", "-")
        if not argument.startswith("--"):
            current.append(argument)
        elif name.rpartition(".")[2].removeprefix("--") in _IN_PARTS:
            if name not in lists:
                lists[name] = [name]
                parts.append(lists[name])
            current = lists[name]
            current.extend([value] if equals else [])
        else:
            current = [argument]
            parts.append(current)
    return [argument for part in parts for argument in part]


def help_page(config: type, hidden: Collection[str]) -> type:
    """Return a config whose help leaves these fields out; tyro needs it to stay alive.

    Args:
        config: a frozen dataclass with defaults.
        hidden: names of fields; vla.self_training is one of the config in the field vla.
    """
    shown: list[tuple[str, Any, Any]] = []
    for setting in fields(config):
        kind, now = setting.type, copy(setting)
        inside = {name.partition(".")[2] for name in hidden if name.startswith(f"{setting.name}.")}
        if setting.name in hidden:
            kind = tyro.conf.Suppress[kind]
        elif inside:
            assert isinstance(kind, type), "the config of a field"
            kind = help_page(kind, inside)
            now.default_factory = kind
        shown.append((setting.name, kind, now))
    return make_dataclass(
        config.__name__, shown, kw_only=True, namespace={"__doc__": config.__doc__}
    )


def chosen(flag: str, arguments: Sequence[str]) -> str | None:
    """Return what follows a flag, if it is given."""
    return dict(zip(arguments, [*arguments[1:], ""], strict=True)).get(flag) or None
