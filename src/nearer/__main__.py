"""Starts the command line: `nearer`, or `python -m nearer`.

Importing torch takes seconds, in which nothing has begun and Ctrl-C must say nothing.
"""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


def main() -> None:
    """Run the command that was asked for."""
    with leaving_at_once():
        from nearer import cli
    cli.main(while_loading=leaving_at_once)


@contextmanager
def leaving_at_once() -> Generator[None, None, None]:
    """End the process without a word if Ctrl-C comes inside the block."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a shell may have told us to ignore it
        signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(signum: int, frame: FrameType | None) -> None:
    """End at once: an exception would be lost or dressed up in the middle of an import."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
