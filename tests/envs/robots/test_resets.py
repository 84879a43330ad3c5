"""A person confirms at the terminal; a line in joint space brings all axes home together."""

import io
import sys

import numpy as np
import pytest

from nearer.core.asking import ask_at_terminal
from nearer.core.errors import EnvError
from nearer.envs.robots.motion_limits import motion_limits
from nearer.envs.robots.resets import home_positions, toward


def test_person_confirms_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    ask_at_terminal("Reset the scene.")
    assert capsys.readouterr().out == "Reset the scene. Then press Enter.\n"


def test_no_terminal_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(EnvError, match="must confirm a reset in the terminal, got the end"):
        ask_at_terminal("Reset the scene.")


def test_axes_arrive_together() -> None:
    position, goal = np.array([0.0, 1.0]), np.array([1.0, 0.8])
    path = [position]
    while not np.array_equal(path[-1], goal):
        path.append(toward(path[-1], goal, np.array([0.25, 0.25])))
    assert np.array(path) == pytest.approx(np.linspace(position, goal, 5))


def test_home_of_axes_that_are_commanded_no_positions_is_zero() -> None:
    limits = motion_limits(
        ["a", "x.vel"], {"a": [-1, 1]}, max_velocity=1, commands={"x.vel": "velocity"}
    )
    assert home_positions(limits, {"a": 0.5}).tolist() == [0.5, 0.0]
