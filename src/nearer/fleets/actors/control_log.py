"""How well a fleet keeps its control rate: a file of the run, and a line for people."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from nearer.core.control_clock import ClockSummary
from nearer.runs.files import append_line
from nearer.runs.json_files import read_documents, require

CONTROL = "control.jsonl"
"""Of a run: how well its robots have kept their control rate, a line an iteration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRecord:
    """How well the actors have kept their control rate, each since it was made.

    Attributes:
        iteration: of Stage 2, after which this was so.
        actors: counted.
        periods: control periods of all actors.
        missed: of these, those whose deadline had passed before the step was over.
        p50_ms: median jitter of the worst actor, over its latest 10,000 periods.
        p99_ms: 99 % quantile of the jitter of the worst actor.
    """

    iteration: int
    actors: int
    periods: int
    missed: int
    p50_ms: float
    p99_ms: float

    def __post_init__(self) -> None:
        """Refuse counts that no clock can have."""
        in_order = 0 <= self.missed <= self.periods
        require(in_order, "missed must lie between 0 and all periods", self.missed)

    @property
    def line(self) -> str:
        """Return a line for people."""
        return (
            f"control    {self.missed:,} of {self.periods:,} control periods missed; jitter of "
            f"the worst of {self.actors} actors {self.p50_ms:.1f} ms (p50), {self.p99_ms:.1f} ms "
            "(p99)"
        )


class ControlLog:
    """Keeps how well actors do in a file of the run."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def report(self, iteration: int, summaries: Collection[ClockSummary]) -> None:
        """Keep what the clocks of all actors say after an iteration."""
        record = ControlRecord(
            iteration=iteration,
            actors=len(summaries),
            periods=sum(summary.periods for summary in summaries),
            missed=sum(summary.missed for summary in summaries),
            p50_ms=max(summary.p50_ms for summary in summaries),
            p99_ms=max(summary.p99_ms for summary in summaries),
        )
        append_line(self._path, asdict(record))


def read_control(path: Path) -> list[ControlRecord]:
    """Return the records of a run, oldest first; a last line cut short by a kill is left out.

    Raises:
        ConfigError: a line is not as `ControlLog` writes it.
    """
    return read_documents(ControlRecord, path, "restore it, or start a new run")
