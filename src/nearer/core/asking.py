"""Asking a person for something, wherever they are: at the console, or at a terminal.

ask_person("Reset the scene and step back.")     returns when they have said that it is done

An env calls this in its reset. Who runs the env says how the person is reached.
"""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from nearer.core.errors import EnvError

Ask = Callable[[str], None]
"""Shows a person a sentence, and returns when they have done what it asks for."""


def ask_at_terminal(sentence: str) -> None:
    """Show a sentence, and wait for a line in the terminal.

    Raises:
        EnvError: there is no terminal.
    """
    print(f"{sentence} Then press Enter.", flush=True)
    if not sys.stdin.readline():
        raise EnvError(
            "a person must confirm a reset in the terminal, got the end of its input; start the "
            "command in a terminal, or pass reset=script and a home pose"
        )


_ASK: ContextVar[Ask] = ContextVar("ask", default=ask_at_terminal)


def ask_person(sentence: str) -> None:
    """Ask a person for something, in whole sentences, and return when they say that it is done.

    Raises:
        EnvError: nobody can be reached.
    """
    _ASK.get()(sentence)


@contextmanager
def asking_by(ask: Ask) -> Generator[None]:
    """Let `ask_person` reach people in this way, in this thread, within the block."""
    token = _ASK.set(ask)
    try:
        yield
    finally:
        _ASK.reset(token)
