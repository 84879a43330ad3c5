"""Symmetries of square rods; that pegs are inserted is tested in test_policy.py."""

import math

import numpy as np
import pytest

from nearer.envs.aloha.demonstrator.insertion import insert_peg, relabelled
from nearer.envs.aloha.poses import rotation_vector, turned

X, Z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("half", range(2))
def test_relabelled_finds_the_rod_that_looks_the_same(quarter: int, half: int) -> None:
    little = turned(np.array([0.0, 0.6, 0.8]), 0.2)
    rod = little @ turned(X, quarter * math.pi / 2) @ turned(Z, half * math.pi)
    assert np.allclose(relabelled(rod, like=np.eye(3)), little)


def test_relabelled_turns_by_an_eighth_at_most() -> None:
    for angle_rad in np.linspace(-3, 3, 25):
        turn = rotation_vector(relabelled(turned(X, angle_rad), like=np.eye(3)))
        assert np.linalg.norm(turn) <= math.pi / 4 + 1e-9


def test_script_is_a_move() -> None:
    assert insert_peg.__annotations__["return"] is not None
