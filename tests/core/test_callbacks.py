"""Ctrl-C as a request that a loop reads where everything is consistent."""

import signal

import pytest

from nearer.core.callbacks import graceful_interrupt
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
