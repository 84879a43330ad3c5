"""Starts the command line: `nearer`, or `python -m nearer`.

Importing torch takes seconds, in which nothing has begun and Ctrl-C must say nothing.
"""

import os
import signal
from types import FrameType

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


def main() -> None:
    """Import the commands and run the one that was asked for."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # a shell may have told us to ignore it
        signal.signal(signal.SIGINT, _leave)
    from nearer import cli

    signal.signal(signal.SIGINT, before)
    cli.main()


def _leave(signum: int, frame: FrameType | None) -> None:
    """End at once: an exception would be lost or dressed up in the middle of an import."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
