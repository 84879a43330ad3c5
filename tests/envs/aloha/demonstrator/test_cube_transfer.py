"""The cube changes hands: after the script the left hand alone holds it."""

import numpy as np
import pytest

from nearer.envs.aloha.demonstrator.arm import Arm
from nearer.envs.aloha.demonstrator.cube_transfer import hand_over_cube
from nearer.envs.aloha.demonstrator.kinematics import ArmKinematics
from nearer.envs.aloha.demonstrator.noise import NO_NOISE, Variety
from nearer.envs.aloha.scene import Side
from nearer.envs.aloha.simulation import AlohaModel, AlohaSimulation
from nearer.envs.aloha.tasks import AlohaTask, draw_object_poses


@pytest.mark.usefixtures("insertion")
def test_left_hand_alone_holds_the_cube_at_the_end() -> None:
    model = AlohaModel(AlohaTask.TRANSFER_CUBE)
    simulation = AlohaSimulation(model)
    simulation.start(draw_object_poses(AlohaTask.TRANSFER_CUBE, np.random.default_rng(0)))
    variety = Variety(NO_NOISE, np.random.default_rng(0))
    left, right = (
        Arm(side, ArmKinematics(model.mujoco_model, side), simulation.scene(), variety)
        for side in Side
    )
    for _ in hand_over_cube(left, right):
        commands = [arm.command() for arm in (left, right)]
        simulation.step(np.concatenate([[*joints, gripper] for joints, gripper in commands]))
        left.scene = right.scene = simulation.scene()
    assert simulation.is_success
    assert left.scene.fingers_touch[Side.LEFT].all()
    assert not left.scene.fingers_touch[Side.RIGHT].any()
    assert left.scene.objects[0].position_m[2] > 0.15
