"""Ctrl-C as a request that a loop reads where everything is consistent."""

import signal
import threading
from collections.abc import Iterator

import pytest

from nearer.core.callbacks import graceful_interrupt, interrupted_by_signals
from nearer.core.errors import Interrupted


def test_obey_without_ctrl_c_goes_on() -> None:
    with graceful_interrupt() as stop:
        stop.obey("continue with nearer sft --resume")
    assert not stop.requested


def test_obey_after_ctrl_c_raises_with_the_advice() -> None:
    with graceful_interrupt() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(Interrupted) as interrupted:
            stop.obey("continue with nearer sft --resume")
    assert str(interrupted.value) == (
        "stopped by Ctrl-C, everything is written; continue with nearer sft --resume"
    )


def test_second_ctrl_c_interrupts_at_once() -> None:
    with graceful_interrupt():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("error", [None, ValueError])
def test_graceful_interrupt_at_its_end_puts_the_handler_back(
    error: type[Exception] | None,
) -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with graceful_interrupt():
            assert signal.getsignal(signal.SIGINT) is not before
            if error:
                raise error
    except ValueError:
        pass
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def heard() -> Iterator[None]:
    """Let signals do what they do by default, also where nohup has this process ignore one."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_ask_as_ctrl_c_does(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with graceful_interrupt() as stop:
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGINT)  # another one is no second time
        assert stop.requested
        signal.raise_signal(signal.SIGTERM if number != signal.SIGTERM else signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_interrupted_by_signals_names_the_signal(number: signal.Signals) -> None:
    with interrupted_by_signals(), pytest.raises(KeyboardInterrupt, match=number.name):
        signal.raise_signal(number)


def test_graceful_interrupt_leaves_a_signal_that_nohup_ignores_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with graceful_interrupt() as stop, interrupted_by_signals():
            signal.raise_signal(signal.SIGHUP)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_graceful_interrupt_in_a_thread_works_without_signals() -> None:
    done: list[bool] = []

    def loop() -> None:
        with graceful_interrupt() as stop:
            done.append(stop.requested)

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    assert done == [False]
