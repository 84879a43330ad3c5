"""Grasping one object by itself: held, lifted, and turned objects."""

import math

import numpy as np
import pytest

from nearer.envs.aloha.demonstrator.arm import Arm
from nearer.envs.aloha.demonstrator.grasping import LIFT_M, Target, facing, holds, take
from nearer.envs.aloha.demonstrator.kinematics import ArmKinematics
from nearer.envs.aloha.demonstrator.noise import NO_NOISE, Variety
from nearer.envs.aloha.poses import rotation_vector
from nearer.envs.aloha.scene import Side
from nearer.envs.aloha.simulation import AlohaModel, AlohaSimulation
from nearer.envs.aloha.tasks import SOCKET, AlohaTask, draw_object_poses

TARGET = Target(row=1, rest_z_m=SOCKET.rest_z_m)
STILL = [0, -0.96, 1.16, 0, -0.3, 0, 0.1]


def started(model: AlohaModel, yaw_rad: float) -> tuple[AlohaSimulation, Arm]:
    poses = draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(0))
    poses[1, 3:] = [math.cos(yaw_rad / 2), 0, 0, math.sin(yaw_rad / 2)]
    simulation = AlohaSimulation(model)
    simulation.start(poses)
    kinematics = ArmKinematics(model.mujoco_model, Side.LEFT)
    variety = Variety(NO_NOISE, np.random.default_rng(0))
    return simulation, Arm(Side.LEFT, kinematics, simulation.scene(), variety)


@pytest.mark.parametrize("yaw_rad", [0.0, 0.5])
def test_take_lifts_the_object(insertion: AlohaModel, yaw_rad: float) -> None:
    simulation, arm = started(insertion, yaw_rad)
    assert not holds(arm, TARGET)
    for _ in take(arm, TARGET):
        joints, gripper = arm.command()
        simulation.step(np.array([*joints, gripper, *STILL]))
        arm.scene = simulation.scene()
    assert holds(arm, TARGET)
    assert arm.scene.objects[1].position_m[2] == pytest.approx(SOCKET.rest_z_m + LIFT_M, abs=0.02)
    assert arm.scene.fingers_touch[Side.LEFT].all()


def test_facing_keeps_the_fingers_across_the_object_by_the_shorter_turn(
    insertion: AlohaModel,
) -> None:
    _, straight = started(insertion, 0.0)
    for yaw_rad, turn_rad in ((0.4, 0.4), (math.pi - 0.4, -0.4)):
        _, arm = started(insertion, yaw_rad)
        turned = facing(arm, TARGET, 1.0) @ facing(straight, TARGET, 1.0).T
        assert rotation_vector(turned) == pytest.approx([0, 0, turn_rad], abs=1e-6)
