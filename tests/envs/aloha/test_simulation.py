"""The physics is gym-aloha's, and its ground truth is read rightly."""

import sys

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.envs.aloha.scene import Side
from nearer.envs.aloha.simulation import (
    CONTROL_HZ,
    AlohaModel,
    AlohaSimulation,
    arm_joint_names,
    side_name,
)
from nearer.envs.aloha.tasks import AlohaTask, draw_object_poses

START = np.array([0, -0.96, 1.16, 0, -0.3, 0, 0.1] * 2)


def started(model: AlohaModel, seed: int = 0) -> AlohaSimulation:
    simulation = AlohaSimulation(model)
    simulation.start(draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(seed)))
    return simulation


def test_simulation_moves_as_gym_aloha_does(
    insertion: AlohaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dm_control.mujoco
    from gym_aloha.env import AlohaEnv

    blank = np.zeros((480, 640, 3), np.uint8)
    monkeypatch.setattr(dm_control.mujoco.Physics, "render", lambda *_, **__: blank)
    theirs = AlohaEnv("insertion", obs_type="pixels_agent_pos")
    theirs.reset(seed=0)
    ours = AlohaSimulation(insertion)
    ours.start(theirs._env.physics.data.qpos[16:].reshape(2, 7).copy())
    rng = np.random.default_rng(0)
    for _ in range(30):
        action = START + rng.normal(0, 0.05, 14)
        observed, reward, *_ = theirs.step(action)
        ours.step(action)
        # a reset of dm_control solves the contacts twice: the last digits differ
        assert np.allclose(ours.agent_pos(), observed["agent_pos"], atol=1e-5)
        assert np.allclose(ours.mujoco_data.qpos, theirs._env.physics.data.qpos, atol=1e-5)
        assert ours.is_success == (reward == 4)


def test_control_rate_is_gym_alohas(insertion: AlohaModel) -> None:
    simulation = started(insertion)
    before_s = simulation.mujoco_data.time
    simulation.step(START)
    assert simulation.mujoco_data.time - before_s == pytest.approx(1 / CONTROL_HZ)


def test_arms_that_stand_still_hang_below_their_targets_by_the_sag(insertion: AlohaModel) -> None:
    simulation = started(insertion)
    for _ in range(50):
        simulation.step(START)
    scene = simulation.scene()
    targets = START.reshape(2, 7)[:, :6]
    assert np.allclose(scene.joints_rad + scene.sag_rad, targets, atol=5e-4)
    assert np.abs(scene.sag_rad).max() > 5e-3


def test_scene_has_the_objects_where_they_were_put(insertion: AlohaModel) -> None:
    simulation = started(insertion)
    poses = draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(0))
    scene = simulation.scene()
    assert np.allclose([item.position_m for item in scene.objects], poses[:, :3])
    assert np.allclose(simulation.object_poses(), poses)
    assert not scene.fingers_touch.any()


def test_a_finger_that_an_object_is_pushed_into_touches_it(insertion: AlohaModel) -> None:
    simulation = started(insertion)
    finger = insertion.mujoco_model.geom("vx300s_left/10_right_gripper_finger").id
    poses = draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(0))
    poses[0, :3] = simulation.mujoco_data.geom_xpos[finger]
    simulation.start(poses)
    assert simulation.scene().fingers_touch[Side.LEFT, 1]
    assert not simulation.scene().fingers_touch[Side.RIGHT].any()


def test_joint_limits_are_the_models(insertion: AlohaModel) -> None:
    elbow = insertion.mujoco_model.joint("vx300s_right/elbow").range
    assert np.array_equal(insertion.joint_limits_rad[Side.RIGHT, 2], elbow)
    assert arm_joint_names(Side.RIGHT)[2] == f"{side_name(Side.RIGHT)}/elbow"


def test_reused_simulation_equals_a_fresh_one(insertion: AlohaModel) -> None:
    used, fresh = started(insertion, seed=1), started(insertion, seed=2)
    for _ in range(10):
        used.step(START + 0.1)
    used.start(draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(2)))
    for _ in range(10):
        used.step(START + 0.05)
        fresh.step(START + 0.05)
    assert np.array_equal(used.mujoco_data.qpos, fresh.mujoco_data.qpos)
    assert np.array_equal(used.mujoco_data.qvel, fresh.mujoco_data.qvel)


def test_model_without_gym_aloha_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gym_aloha", None)
    monkeypatch.setitem(sys.modules, "gym_aloha.constants", None)
    with pytest.raises(EnvError, match=r"must have gym-aloha.*pip install 'nearer\[aloha\]'"):
        AlohaModel(AlohaTask.INSERTION)
