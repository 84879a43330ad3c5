"""Faults of robots: how long to wait for one, when to try again, and the record of them."""

import logging
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from nearer.core.settings import check_settings
from nearer.runs.files import append_line
from nearer.runs.json_files import read_documents

_LOG = logging.getLogger(__name__)
FAULTS = "faults.jsonl"
"""Of a run: the faults of its robots, one a line."""
FaultKind = Literal["raised", "hung", "died"]
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """When an actor counts as faulty, and what then.

    Attributes:
        start_s: seconds in which it must be ready.
        step_s: seconds in which it must give a sign of life when its robots act.
        reset_s: the same seconds when its robots are reset, which may take a person.
        first_wait_s: seconds before a faulty actor is started again; they double with each fault in
            a row, up to a minute.
        most_in_a_row: faults without an episode between them, after which it is left alone; ten,
            with their rests, outlast a robot that is disconnected for five minutes.
        frozen_steps: control steps with the same image, bit for bit, while its robot moves, that
            make a camera faulty; 0: none do.
    """

    start_s: float = 300.0
    step_s: float = 60.0
    reset_s: float = 300.0
    first_wait_s: float = 1.0
    most_in_a_row: int = 10
    frozen_steps: int = 20

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="fleet.faults.",
            start_s="(0, inf)",
            step_s="(0, inf)",
            reset_s="(0, inf)",
            first_wait_s="[0, inf)",
            most_in_a_row="[1, inf)",
            frozen_steps="[0, inf)",
        )

    def wait_s(self, in_a_row: int) -> float:
        """Return how long a faulty actor rests after so many faults in a row."""
        return min(_LONGEST_WAIT_S, self.first_wait_s * 2.0 ** min(in_a_row - 1, 30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of an actor.

    Attributes:
        time: UTC, ISO 8601.
        actor: its number.
        robots: the numbers of its robots.
        kind: its env raised an error, it gave no sign of life in time, or it ended without a word.
        sentence: what was seen.
        iteration: of Stage 2 that it acted for; None: it was idle.
        dropped_episodes: that had started and not ended. They are not learned from.
        again_in_s: until it is started again; None: it is left alone for the rest of the run.
    """

    time: str
    actor: int
    robots: tuple[int, ...]
    kind: FaultKind
    sentence: str
    iteration: int | None
    dropped_episodes: int
    again_in_s: float | None


def read_faults(path: Path) -> list[Fault]:
    """Return the faults of a run, oldest first; a last line cut short by a kill is left out.

    Raises:
        ConfigError: a line is not as `FaultLog` writes it.
    """
    return read_documents(Fault, path, "restore it, or start a new run")


class FaultLog:
    """Reports faults, and keeps them in a file of the run where it is given one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path

    def report(self, fault: Fault) -> None:
        """Warn of a fault and keep it."""
        numbers = ", ".join(map(str, fault.robots))
        who = f"robots {numbers} have" if len(fault.robots) > 1 else f"robot {numbers} has"
        then = (
            "it is left alone for the rest of the run"
            if fault.again_in_s is None
            else f"it is started again in {fault.again_in_s:g} s"
        )
        _LOG.warning(
            "%s failed (%s): %s; %d unfinished episodes are dropped, %s",
            *(who, fault.kind, fault.sentence, fault.dropped_episodes, then),
        )
        if self._path is not None:
            append_line(self._path, asdict(fault))


def now() -> str:
    """Return the time as faults have it."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
