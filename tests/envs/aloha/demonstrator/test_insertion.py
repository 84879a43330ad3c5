"""Symmetries of square rods, and a peg that stays where it was pushed."""

import itertools
import math

import numpy as np
import pytest

from nearer.envs.aloha.demonstrator.arm import Arm
from nearer.envs.aloha.demonstrator.insertion import insert_peg, relabelled
from nearer.envs.aloha.demonstrator.kinematics import ArmKinematics
from nearer.envs.aloha.demonstrator.noise import NO_NOISE, Variety
from nearer.envs.aloha.poses import rotation_vector, turned
from nearer.envs.aloha.scene import Side
from nearer.envs.aloha.simulation import AlohaModel, AlohaSimulation
from nearer.envs.aloha.tasks import AlohaTask, draw_object_poses

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


def test_peg_stays_inside_after_the_script(insertion: AlohaModel) -> None:
    simulation = AlohaSimulation(insertion)
    simulation.start(draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(0)))
    variety = Variety(NO_NOISE, np.random.default_rng(0))
    left, right = (
        Arm(side, ArmKinematics(insertion.mujoco_model, side), simulation.scene(), variety)
        for side in Side
    )
    for _ in itertools.chain(insert_peg(left, right), range(15)):
        commands = [arm.command() for arm in (left, right)]
        simulation.step(np.concatenate([[*joints, gripper] for joints, gripper in commands]))
        left.scene = right.scene = simulation.scene()
    assert simulation.is_success
    assert left.scene.fingers_touch.all()
