"""How a loop reports its progress, and how it is asked to stop."""

import os
import signal
import stat
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from nearer.core.errors import Interrupted

_NAMES = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP"}
_SIGNALS = tuple(signal.Signals[name] for name in _NAMES if name in signal.Signals.__members__)
"""What asks a program to end: the user, the machine that shuts down, the terminal that closes."""

_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers


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


class StopRequest:
    """Whether Ctrl-C was pressed; loops read it where everything is consistent.

    Attributes:
        requested: whether to stop.
        by: what asked for it, for people.
    """

    def __init__(self) -> None:
        self.requested = False
        self.by = "Ctrl-C"

    def obey(self, advice: str) -> None:
        """Raise `Interrupted` if a stop was requested."""
        if self.requested:
            raise Interrupted(f"stopped by {self.by}, everything is written; {advice}")


@contextmanager
def graceful_interrupt() -> Generator[StopRequest, None, None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a request; the same again interrupts at once.

    In a thread, which hears no signals, nothing asks.
    """
    request = StopRequest()

    def ask(signum: int, frame: FrameType | None) -> None:
        _leave_closed_terminal(signum)
        request.requested = True
        request.by = _name(signum)
        signal.signal(signum, _interrupt)

    with _answered_by(ask, _SIGNALS):
        yield request


@contextmanager
def interrupted_by_signals() -> Generator[None, None, None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: raise KeyboardInterrupt, with its name."""
    others = [number for number in _SIGNALS if number != signal.SIGINT]
    with _answered_by(_interrupt, others):
        yield


@contextmanager
def _answered_by(
    handler: _Handler, numbers: Sequence[signal.Signals]
) -> Generator[None, None, None]:
    """Answer the signals that ask to stop, but those that whoever started us lets be ignored."""
    before: dict[signal.Signals, _Handler] = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            # nohup ignores SIGHUP; a shell ignores SIGINT for background jobs, and we do not.
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler) or signal.SIG_DFL
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    _leave_closed_terminal(signum)
    raise KeyboardInterrupt(_name(signum))


def _name(signum: int) -> str:
    return _NAMES[signal.Signals(signum).name]


def _leave_closed_terminal(signum: int) -> None:
    """After SIGHUP nobody reads what is written to the terminal, and writing there fails."""
    if signal.Signals(signum).name != "SIGHUP":
        return
    for descriptor in (1, 2):
        try:
            is_terminal = stat.S_ISCHR(os.fstat(descriptor).st_mode)
        except OSError:
            continue
        if is_terminal:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
