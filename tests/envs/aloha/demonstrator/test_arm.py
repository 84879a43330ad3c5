"""Moves: where they start and end, how smoothly, and side by side."""

import math

import numpy as np
import pytest

from nearer.envs.aloha.demonstrator.arm import OPEN, Arm, Move, in_parallel, steps
from nearer.envs.aloha.demonstrator.kinematics import ArmKinematics
from nearer.envs.aloha.demonstrator.noise import HUMAN_LIKE, NO_NOISE, MotionNoise, Variety
from nearer.envs.aloha.poses import Pose, translation
from nearer.envs.aloha.scene import Side
from nearer.envs.aloha.simulation import AlohaModel, AlohaSimulation
from nearer.envs.aloha.tasks import AlohaTask, draw_object_poses


def an_arm(model: AlohaModel, noise: MotionNoise = NO_NOISE) -> Arm:
    simulation = AlohaSimulation(model)
    simulation.start(draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(0)))
    kinematics = ArmKinematics(model.mujoco_model, Side.LEFT)
    variety = Variety(noise, np.random.default_rng(0))
    return Arm(Side.LEFT, kinematics, simulation.scene(), variety)


def counted(num_steps: int, seen: list[int]) -> Move:
    for step in range(num_steps):
        seen.append(step)
        yield


def test_in_parallel_takes_as_long_as_the_longest() -> None:
    first: list[int] = []
    second: list[int] = []
    assert sum(1 for _ in in_parallel(counted(2, first), counted(5, second))) == 5
    assert (first, second) == ([0, 1], [0, 1, 2, 3, 4])
    assert not list(in_parallel(counted(0, first)))


def test_steps_are_fiftieths_of_a_second() -> None:
    assert steps(0.5) == 25


def test_move_goes_straight_and_evenly_to_its_end(insertion: AlohaModel) -> None:
    arm = an_arm(insertion)
    start = arm.aim
    goal = Pose(position_m=start.position_m + np.array([0.1, 0.0, -0.05]), rotation=start.rotation)
    positions_m = [start.position_m]
    for _ in arm.move(goal, speed_m_s=0.2):
        positions_m.append(arm.aim.position_m)
    length_m = math.dist(start.position_m, goal.position_m)
    assert len(positions_m) - 1 == steps(length_m / 0.2)
    assert math.dist(positions_m[-1], goal.position_m) < 5e-4
    lengths_m = np.linalg.norm(np.diff(positions_m, axis=0), axis=1)
    assert lengths_m.sum() == pytest.approx(length_m, rel=0.01)
    assert lengths_m.argmax() == pytest.approx(len(lengths_m) / 2, abs=2)
    assert max(lengths_m[0], lengths_m[-1]) < 0.1 * lengths_m.max()


def test_swing_ends_at_its_pose_and_moves_all_joints_evenly(insertion: AlohaModel) -> None:
    arm = an_arm(insertion)
    goal = arm.aim @ translation(0.05, 0.05)
    joints = [arm.joints_rad]
    for _ in arm.swing(goal):
        joints.append(arm.joints_rad)
    assert math.dist(arm.aim.position_m, goal.position_m) < 5e-4
    changes = np.diff(joints, axis=0)
    shares = changes / changes.sum(axis=1, keepdims=True)
    assert np.allclose(shares, shares[0])


def test_gripper_opens_as_a_hand_would_and_gravity_is_made_up_for(insertion: AlohaModel) -> None:
    arm = an_arm(insertion)
    arm.gripper = OPEN
    openings = [arm.command()[1] for _ in range(20)]
    assert np.diff(openings).max() <= 0.08 + 1e-9
    assert openings[-1] == pytest.approx(OPEN)
    joints, _ = arm.command()
    assert np.allclose(joints, arm.joints_rad + arm.scene.sag_rad[Side.LEFT])


def test_settle_ends_at_once_where_the_tool_is_and_in_time_where_it_cannot_be(
    insertion: AlohaModel,
) -> None:
    arm = an_arm(insertion)
    assert not list(arm.settle())
    arm.joints_rad = arm.joints_rad + 0.2
    assert sum(1 for _ in arm.settle()) == steps(0.6)
    assert sum(1 for _ in arm.wait(0.2)) == 10
    assert not list(arm.pause())


def test_human_like_moves_bend_and_tremble(insertion: AlohaModel) -> None:
    lengths: list[int] = []
    for noise in (NO_NOISE, HUMAN_LIKE):
        arm = an_arm(insertion, noise)
        goal = Pose(
            position_m=arm.aim.position_m + np.array([0.1, 0.0, 0.0]), rotation=arm.aim.rotation
        )
        line_m = arm.aim.position_m[1:]
        off_m = 0.0
        lengths.append(0)
        for _ in arm.move(goal, speed_m_s=0.2):
            off_m = max(off_m, math.dist(arm.aim.position_m[1:], line_m))
            lengths[-1] += 1
        assert (off_m > 2e-3) == (noise is HUMAN_LIKE)
    assert lengths[0] != lengths[1]
    assert not arm.touches
