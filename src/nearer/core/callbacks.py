"""How a loop reports its progress, and how it is asked to stop."""

import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from nearer.core.errors import Interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a stage stands.

    Attributes:
        stage: its name for people.
        done: units done of `total`.
        values: what to show beside the bar, in this order.
    """

    stage: str
    done: int
    total: int
    values: Mapping[str, str] = field(default_factory=dict[str, str])


ProgressCallback = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Show nothing."""


RemarkCallback = Callable[[str], None]
"""Is told a sentence that the user should read, of something that is no error."""


def ignore_remark(remark: str) -> None:
    """Say nothing."""


class StopRequest:
    """Whether Ctrl-C was pressed; loops read it where everything is consistent."""

    def __init__(self) -> None:
        self.requested = False

    def obey(self, advice: str) -> None:
        """Raise `Interrupted` if a stop was requested."""
        if self.requested:
            raise Interrupted(f"stopped by Ctrl-C, everything is written; {advice}")


@contextmanager
def graceful_interrupt() -> Generator[StopRequest, None, None]:
    """Turn the first Ctrl-C into a request; a second one interrupts at once."""
    request = StopRequest()

    def ask(signum: int, frame: FrameType | None) -> None:
        request.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, before)
