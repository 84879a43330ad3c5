"""Where the loops of both stages save, and from where they resume: all that they know of a run.

    log       a record of metrics, after a validation (Stage 1) or an iteration (Stage 2)
    save      a checkpoint: weights, the optimiser's moments, the loop's own counters
    restore   the newest checkpoint, into a model and its optimiser

`nearer.runs.run.Run` writes a folder; `SilentRun` takes part where another process writes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from nearer.algorithm.model import FoundationModel
from nearer.core.errors import NearerError
from nearer.core.metrics import Record

Counters = Mapping[str, float | int | bool]
"""Where a loop stands, such as updates done; JSON values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """What resuming needs besides weights.

    Attributes:
        optimizer: its moments are saved and restored.
        counters: where the loop stands.
    """

    optimizer: torch.optim.Optimizer
    counters: Counters


def count_in(counters: Counters, name: str, run: str) -> int:
    """Return a counter of 0 or more of a run's last checkpoint.

    Raises:
        NearerError: it is missing, or something else.
    """
    value = counters.get(name)
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise _damaged(name, "a whole number of 0 or more", value, run)
    return int(value)


def loss_in(counters: Counters, name: str, run: str) -> float:
    """Return a loss among a run's counters; inf before there was one.

    Raises:
        NearerError: it is missing, or something else.
    """
    value = counters.get(name)
    if not isinstance(value, float) or math.isnan(value):
        raise _damaged(name, "a number", value, run)
    return value


def _damaged(name: str, expected: str, got: object, run: str) -> NearerError:
    return NearerError(
        f"training_step.json of the last checkpoint of {run} must have the counter {name}, "
        f"{expected}, got {str(got)[:60]}; copy the checkpoint again, or delete its folder to "
        "continue from the one before"
    )


@runtime_checkable
class RunWriter(Protocol):
    """A run that a loop writes to."""

    @property
    def name(self) -> str:
        """Name the run for people, such as its folder."""
        ...

    @property
    def how_to_resume(self) -> str:
        """Say how the run is continued, as the rest of a sentence."""
        ...

    def records(self) -> list[Record]:
        """Return the records of the run so far, oldest first."""
        ...

    def log(self, record: Record) -> None:
        """Write a record of metrics."""
        ...

    def save(
        self,
        step: int,
        model: FoundationModel,
        training: TrainingState,
        links: Mapping[str, int],
        keep: Sequence[int] = (),
    ) -> None:
        """Write checkpoint `step`, whose records are on disk before it, and link to it.

        Args:
            step: number of the checkpoint; the link `last` will name it.
            model: its weights are written.
            training: what resuming needs besides.
            links: link -> step of the checkpoint it shall name, such as policy and reward.
            keep: steps of checkpoints that may be linked later; all others are dropped.
        """
        ...

    def link(self, last: int, links: Mapping[str, int], keep: Sequence[int] = ()) -> None:
        """Let links name checkpoints, as `save` does, without writing one."""
        ...

    def restore(self, model: FoundationModel, optimizer: torch.optim.Optimizer) -> Counters | None:
        """Put the newest checkpoint back and return its counters; None before the first."""
        ...
