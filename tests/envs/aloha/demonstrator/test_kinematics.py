"""Inverse kinematics reaches what an arm can reach; kinematics is the simulator's."""

import math

import numpy as np
import pytest

from nearer.envs.aloha.demonstrator.kinematics import ArmKinematics
from nearer.envs.aloha.poses import Pose, rotation_vector, turned
from nearer.envs.aloha.scene import Side
from nearer.envs.aloha.simulation import AlohaModel, AlohaSimulation
from nearer.envs.aloha.tasks import AlohaTask, draw_object_poses

START = np.array([0, -0.96, 1.16, 0, -0.3, 0])
SIDES = pytest.mark.parametrize("side", Side)


def far(first: Pose, second: Pose) -> tuple[float, float]:
    """Return the distance of two poses in m and rad."""
    turn = rotation_vector(first.rotation.T @ second.rotation)
    return math.dist(first.position_m, second.position_m), float(np.linalg.norm(turn))


@SIDES
def test_tool_is_between_the_simulators_fingers(insertion: AlohaModel, side: Side) -> None:
    simulation = AlohaSimulation(insertion)
    simulation.start(draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(0)))
    tool = ArmKinematics(insertion.mujoco_model, side).tool_pose(START)
    name = f"vx300s_{side.name.lower()}"
    gripper = simulation.mujoco_data.body(f"{name}/gripper_link")
    ahead, across, _ = tool.inverse().rotation @ (gripper.xpos - tool.position_m)
    assert (ahead, across) == pytest.approx((-0.135, 0.0), abs=1e-6)
    fingers = [f"{name}/{side}_finger_link" for side in ("left", "right")]
    middle = np.mean([simulation.mujoco_data.body(finger).xpos for finger in fingers], axis=0)
    assert (tool.inverse().rotation @ (middle - tool.position_m))[1:] == pytest.approx(
        (0, 0), abs=1e-6
    )


@SIDES
def test_solve_follows_a_tool_that_moves_by_millimetres(insertion: AlohaModel, side: Side) -> None:
    arm, rng = ArmKinematics(insertion.mujoco_model, side), np.random.default_rng(0)
    for _ in range(20):
        joints = START + np.array([*rng.uniform(-0.3, 0.3, 4), 0.8, *rng.uniform(-0.3, 0.3, 1)])
        target = arm.tool_pose(joints + rng.normal(0, 0.01, 6))
        distance_m, angle_rad = far(arm.tool_pose(arm.solve(target, joints)), target)
        assert distance_m < 1e-4
        assert angle_rad < 1e-3


@SIDES
def test_solve_far_reaches_every_object_without_spinning_the_wrist(
    insertion: AlohaModel, side: Side
) -> None:
    arm, sign = ArmKinematics(insertion.mujoco_model, side), 1 if side is Side.RIGHT else -1
    yaw = turned(np.array([0.0, 0.0, 1.0]), math.pi if side is Side.RIGHT else 0.0)
    for x_m in (0.1, 0.2):
        for y_m in (0.4, 0.6):
            for pitch_rad in (0.9, 1.2, 1.4):
                position_m = np.array([sign * x_m, y_m, 0.1])
                rotation = yaw @ turned(np.array([0.0, 1.0, 0.0]), pitch_rad)
                target = Pose(position_m=position_m, rotation=rotation)
                joints = arm.solve_far(target, START)
                distance_m, angle_rad = far(arm.tool_pose(joints), target)
                assert distance_m < 1e-4
                assert angle_rad < 1e-3
                assert np.abs(joints[3:]).max() < 2.0


def test_joints_stay_within_their_limits(insertion: AlohaModel) -> None:
    arm = ArmKinematics(insertion.mujoco_model, Side.LEFT)
    limits_rad = insertion.joint_limits_rad[Side.LEFT]
    out_of_reach = Pose(position_m=np.array([3.0, 0.5, 0.2]), rotation=np.eye(3))
    joints = arm.solve(out_of_reach, START, iterations=50)
    assert (joints >= limits_rad[:, 0]).all()
    assert (joints <= limits_rad[:, 1]).all()
    assert np.array_equal(arm.within_limits(np.full(6, 9.0)), limits_rad[:, 1])
