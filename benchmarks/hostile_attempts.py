"""Tries hostile cases one after the other and counts what goes wrong."""

import io
import resource
import signal
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from nearer.cli import main
from nearer.core.errors import NearerError

LONGEST_S, MOST_MB = 30, 500.0
_LONGEST_SENTENCE = 3000
_REFUSED = (1, 3)  # exit codes of a refusal and of an alarm, which say why
_USAGE = 2  # arguments make no sense: the page of usage


class Hang(BaseException):
    """A case took longer than `LONGEST_S`."""


@dataclass(slots=True)
class Attempts:
    """What became of the cases so far.

    Attributes:
        tracebacks: cases that ended in another error than a sentence.
        hangs: cases that took longer than `LONGEST_S`.
        over_memory: cases in which the process grew by more than `MOST_MB`.
        faults: what these were, in words.
    """

    cases: int = 0
    tracebacks: int = 0
    hangs: int = 0
    over_memory: int = 0
    faults: list[str] = field(default_factory=list[str])

    def counts(self) -> dict[str, int]:
        """Return the counts of the JSON line."""
        return {
            "cases": self.cases,
            "tracebacks": self.tracebacks,
            "hangs": self.hangs,
            "over_memory": self.over_memory,
        }

    def command(self, case: str, arguments: Sequence[str]) -> None:
        """Run a command; it works, or says in a sentence what is wrong.

        Args:
            case: names the case in `faults`.
            arguments: of the command line.
        """
        self.refusal(case, lambda: main(arguments))

    def refusal(self, case: str, attempt: Callable[[], object]) -> None:
        """Call a function that may end the process with a sentence, as a command does."""
        said = io.StringIO()

        def run() -> None:
            try:
                with redirect_stderr(said), redirect_stdout(io.StringIO()):
                    attempt()
            except SystemExit as left:
                _check_refusal(left.code, said.getvalue())

        self.call(case, run)

    def call(self, case: str, attempt: Callable[[], object]) -> None:
        """Call a function; it works, or raises a sentence."""
        self.cases += 1
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with _limited():
                attempt()
        except NearerError as error:
            if "\n" in str(error) or len(str(error)) > _LONGEST_SENTENCE:
                self._note("tracebacks", f"{case}: {str(error)[:300]!r}")
        except Hang:
            self._note("hangs", f"{case}: more than {LONGEST_S} s")
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            kind = f"{type(error).__name__} at {where}"
            self._note("tracebacks", f"{case}: {kind}: {str(error)[:300]}")
        grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1000
        if grown_mb > MOST_MB:
            self._note("over_memory", f"{case}: {grown_mb:.0f} MB")

    def _note(self, count: str, fault: str) -> None:
        setattr(self, count, getattr(self, count) + 1)
        self.faults.append(fault)


def _check_refusal(code: object, said: str) -> None:
    """Raise ValueError unless a command that failed says why in one sentence."""
    if code in (None, 0, _USAGE) and "Traceback" not in said:
        return
    last = said.rstrip("\n").rpartition("\n")[2]
    one_sentence = last.startswith("nearer: ") and len(last) < _LONGEST_SENTENCE
    if code not in _REFUSED or not one_sentence or "Traceback" in said:
        raise ValueError(f"exit code {code}, saying {said[-300:]!r}")


@contextmanager
def _limited() -> Generator[None, None, None]:
    """Raise Hang in what takes longer than `LONGEST_S`; in the main thread alone."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
