"""What flags of several commands share."""

from typing import Annotated

import tyro

from nearer.runs.trackers import TrackerName

Flat = tyro.conf.arg(name="")
"""The settings of a nested config are flags of the command itself."""

NeededToStart = tyro.conf.arg(help_behavior_hint="(needed unless --resume)")
"""The default cannot start a run: a resumed run has its own value."""

Renames = tyro.conf.arg(metavar="[KEY=NEW ...]")
"""New names of a data set's features."""

Track = Annotated[tuple[TrackerName, ...], tyro.conf.arg(metavar="[NAME ...]")]
"""Trackers of a run, besides metrics.jsonl."""
