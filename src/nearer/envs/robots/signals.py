"""Stop the robot when the process is asked to end, whatever its main thread is doing.

Python runs signal handlers in the main thread, between two of its own instructions: not while that
thread is inside a library. The byte that CPython writes to `signal.set_wakeup_fd` comes at once,
and a thread of this module reads it.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SIGNALS = {
    int(signal.Signals[name]): name for name in _NAMES if name in signal.Signals.__members__
}
_EXIT = 128  # plus the signal: what a shell calls a program that a signal ended

Stop = Callable[[str], None]
"""Receives the signal's name, in a thread of this module."""

_stops: list[Stop] = []
_pipe: list[int] = []
"""The process's one pipe, its end to read and its end to write, once it was needed.

It is never closed, so a late signal is never written into another file.
"""


def stop_on_signals(stop: Stop) -> bool:
    """Call `stop` at once when SIGINT, SIGTERM or SIGHUP comes; return whether that is possible.

    It is not outside the main thread, and where an event loop reads the signals already. A SIGTERM
    or SIGHUP that would kill the process ends it by SystemExit from now on.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if not _pipe:
        _pipe.extend(os.pipe())
        os.set_blocking(_pipe[1], False)
        threading.Thread(target=_read, name="robot signals", daemon=True).start()
    before = signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)
    if before not in (-1, _pipe[1]):
        signal.set_wakeup_fd(before)
        return False
    for number in _SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _leave)
    _stops.append(stop)
    return True


def forget_signals(stop: Stop) -> None:
    """Call `stop` no more, and leave signals as they were after the last one. Twice is harmless."""
    if stop in _stops:
        _stops.remove(stop)
    if _stops or threading.current_thread() is not threading.main_thread():
        return
    before = signal.set_wakeup_fd(-1)
    if before not in _pipe:
        signal.set_wakeup_fd(before)
    for number in _SIGNALS:
        if signal.getsignal(number) == _leave:
            signal.signal(number, signal.SIG_DFL)


def _read() -> None:
    while True:
        for number in os.read(_pipe[0], 64):
            if number in _SIGNALS:
                for stop in list(_stops):
                    stop(_SIGNALS[number])


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(_EXIT + number)
