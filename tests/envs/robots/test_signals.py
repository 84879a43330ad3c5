"""A signal stops the robot at once, also where the main thread cannot run its handler."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nearer.envs.robots.signals import forget_signals, stop_on_signals


def test_signal_is_heard_while_the_main_thread_is_inside_a_library() -> None:
    heard: list[tuple[str, float]] = []
    answered: list[float] = []

    def stop(name: str) -> None:
        heard.append((name, time.monotonic()))

    before = signal.signal(signal.SIGHUP, lambda number, frame: answered.append(time.monotonic()))
    try:
        assert stop_on_signals(stop)
        sent_s: list[float] = []

        def send() -> None:
            sent_s.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGHUP)

        threading.Timer(0.1, send).start()
        began_s = time.monotonic()
        while time.monotonic() - began_s < 0.3:  # one call a round, each too long to interrupt
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)
        time.sleep(0.05)
    finally:
        forget_signals(stop)
        signal.signal(signal.SIGHUP, before)
    ((name, at_s),) = heard
    assert name == "SIGHUP"
    assert at_s - sent_s[0] < 0.1
    assert answered[0] > at_s


PROGRAM = """
import signal, time
from nearer.envs.robots.signals import stop_on_signals
from nearer.envs.robots.watchdog import Watchdog
watchdog = Watchdog(lambda: print("held", flush=True), deadline_s=60, period_s=0.05)
assert stop_on_signals(watchdog.stop)
with watchdog.commanding():
    print("moving", flush=True)
time.sleep(20)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_that_ends_the_program_holds_the_robot_first(number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "moving\n"
        program.send_signal(number)
        assert program.stdout.read() == "held\n"
    assert program.returncode in (128 + number, -number)


def test_outside_the_main_thread_it_says_that_it_cannot() -> None:
    said: list[bool] = []
    thread = threading.Thread(target=lambda: said.append(stop_on_signals(print)))
    thread.start()
    thread.join()
    assert said == [False]


def test_event_loop_that_reads_signals_keeps_them() -> None:
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender)
    try:
        assert not stop_on_signals(print)
    finally:
        assert signal.set_wakeup_fd(-1) == sender
        os.close(receiver)
        os.close(sender)


LEFT = """
import signal
from nearer.envs.robots.signals import forget_signals, stop_on_signals
before = signal.getsignal(signal.SIGTERM)
assert stop_on_signals(print)
assert signal.getsignal(signal.SIGTERM) != before
forget_signals(print)
forget_signals(print)
assert signal.getsignal(signal.SIGTERM) == before
assert signal.set_wakeup_fd(-1) == -1
"""


def test_signals_are_left_as_they_were() -> None:
    subprocess.run([sys.executable, "-c", LEFT], check=True)
