"""What the sections of `accelerator.py` share: the device, the time that is left, what they yield.

A section yields one measurement after the other, a name and a value, so that what it has measured
is kept when it fails or its time is over.
"""

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType

import torch

Value = float | int | str | bool | None
Measurements = Iterator[tuple[str, Value]]


class SectionOver(BaseException):
    """The time of a section is over. No `except Exception` of a section may keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a section is given.

    Attributes:
        device: that is measured.
        tiny: everything is to be as small as it can be.
        out: folder for weights that are kept.
        scratch: folder for models, data and runs, which are not.
        peak_flops_per_s: of products of large matrices in bfloat16.
        ends_s: when the section's time is over, by the monotonic clock.
    """

    device: torch.device
    tiny: bool
    out: Path
    scratch: Path
    peak_flops_per_s: float
    ends_s: float

    @property
    def left_s(self) -> float:
        """Return the seconds that the section has left."""
        return max(0.0, self.ends_s - monotonic())

    @property
    def least_s(self) -> float:
        """Return for how long a call is repeated to take its median time."""
        return 0.01 if self.tiny else 1.5


def attempt(name: str, cell: Measurements) -> Measurements:
    """Yield what a part of a section measures; if it fails, say so and let the others go on."""
    try:
        yield from cell
    except Exception as error:  # whatever it is, it must not cost the other parts
        yield f"{name}_failed", sentence(error)


def sentence(error: BaseException) -> str:
    """Return an error as one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def measure_within(
    seconds: float, measurements: Measurements, keep: Callable[[str, Value], None]
) -> None:
    """Keep what a section measures until its time is over or it fails, and a sentence then.

    Args:
        seconds: that it may take.
        measurements: of the section.
        keep: is given the name and the value of each as it comes.
    """
    try:
        with _alarm(seconds):
            for name, value in measurements:
                keep(name, value)
    except SectionOver:
        keep("stopped", "the section's time was over; what is missing was not measured")
    except Exception as error:  # whatever it is, the other sections are still to run
        keep("failed", sentence(error))


@contextmanager
def _alarm(seconds: float) -> Generator[None, None, None]:
    """Raise SectionOver in this block after so many seconds."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise SectionOver

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
