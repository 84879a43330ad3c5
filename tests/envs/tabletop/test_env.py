"""The tabletop as Gymnasium envs: contracts, determinism, instructions, bad input."""

import hashlib
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from nearer.core.episode import EncodedObservation, Observation
from nearer.core.errors import EnvError
from nearer.core.interfaces import KnowsTruePositions
from nearer.envs.tabletop.appearance import SIM
from nearer.envs.tabletop.env import Tabletop, TabletopVector
from nearer.envs.tabletop.language import InstructionFamily
from nearer.envs.tabletop.tasks import is_successful
from nearer.fleets.gym import make_fleet
from nearer.testing import check_fleet

FAMILIES = {
    "Tabletop": set(InstructionFamily) - {InstructionFamily.BANANA},
    "TabletopBlock2Block": {InstructionFamily.BLOCK_TO_BLOCK},
    "TabletopBlock2Place": {InstructionFamily.BLOCK_TO_PLACE},
    "TabletopBlock2Relative": {InstructionFamily.BLOCK_TO_RELATIVE},
    "TabletopPoint": {InstructionFamily.POINT},
    "TabletopSeparate": {InstructionFamily.SEPARATE},
    "BananaTable": {InstructionFamily.BANANA},
}
DIGEST = """
import hashlib, numpy as np
from nearer.envs.tabletop.env import Tabletop
env, digest = Tabletop(appearance="real"), hashlib.sha256()
observation, info = env.reset(seed=11)
for step in range(12):
    digest.update(observation["agent_pos"].tobytes() + observation["pixels"]["front"].tobytes())
    observation = env.step(np.float32([0.04 * np.cos(step), 0.04 * np.sin(step)]))[0]
digest.update(env.layouts(np.arange(1))[0].poses.tobytes() + info["instruction"].encode())
"""


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            equal(first[key], second[key]) for key in first
        )
    return np.array_equal(first, second)


def row(batch: dict[str, Any], i: int) -> dict[str, Any]:
    return {key: row(part, i) if isinstance(part, dict) else part[i] for key, part in batch.items()}


@pytest.mark.parametrize("env_id", ["nearer/Tabletop-v0", "nearer/BananaTableReal-v0"])
def test_tabletop_passes_gymnasium_check(env_id: str) -> None:
    env = gymnasium.make(env_id, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.reset(seed=0)
    assert env.render().shape == (360, 640, 3)
    env.close()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("suffix", ["", "Real"])
def test_tabletop_id_gives_instructions_of_its_families(name: str, suffix: str) -> None:
    env_id = f"nearer/{name}{suffix}-v0"
    envs = gymnasium.make_vec(env_id, 12, vectorization_mode="vector_entry_point", images=False)
    _, info = envs.reset(seed=0)
    families = {task.family for task in envs.unwrapped.tasks(np.arange(12))}
    assert families <= FAMILIES[name]
    assert len(families) >= min(3, len(FAMILIES[name]))
    assert not info["is_success"].any()
    envs.close()


@pytest.mark.parametrize("env_id", ["nearer/Tabletop-v0", "nearer/BananaTableReal-v0"])
def test_tabletop_fleet_keeps_the_contract(env_id: str) -> None:
    fleet = make_fleet(env_id, 3)
    assert [str(camera) for camera in fleet.spaces.cameras] == ["front 96x128"]
    check_fleet(fleet)
    fleet.close()


def test_tabletop_observation_is_the_effector_and_the_image() -> None:
    env = Tabletop(height=48, width=64)
    observation, _ = env.reset(seed=0)
    assert observation.keys() == {"agent_pos", "pixels"}
    assert observation["agent_pos"].shape == (2,)
    assert observation["pixels"]["front"].shape == (48, 64, 3)
    assert Tabletop(images=False).reset(seed=0)[0].keys() == {"agent_pos"}


@pytest.mark.parametrize("appearance", ["sim", "real"])
def test_tabletop_vector_equals_single_envs_bit_for_bit(appearance: str) -> None:
    vector = TabletopVector(num_envs=3, num_threads=2, appearance=appearance)
    singles = [Tabletop(appearance=appearance) for _ in range(3)]
    observation, info = vector.reset(seed=[5, 6, 7])
    alone = [env.reset(seed=5 + i) for i, env in enumerate(singles)]
    assert info["instruction"].tolist() == [info["instruction"] for _, info in alone]
    rng = np.random.default_rng(0)
    single_observations = [start for start, _ in alone]
    for _ in range(15):
        assert all(equal(row(observation, i), single_observations[i]) for i in range(3))
        actions = rng.uniform(-0.11, 0.11, (3, 2)).astype(np.float32)
        observation, reward, _, _, info = vector.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        single_observations = [step[0] for step in steps]
        assert reward.tolist() == [step[1] for step in steps]
        assert info["clipped"].tolist() == [step[4]["clipped"] for step in steps]
    vector.close()


def test_tabletop_vector_any_number_of_threads_gives_equal_observations() -> None:
    observations: list[Any] = []
    for num_threads in (1, 3):
        envs = TabletopVector(num_envs=4, num_threads=num_threads)
        envs.reset(seed=3)
        observations.append(envs.step(np.full((4, 2), 0.03, np.float32))[0])
        envs.close()
    assert equal(*observations)


def test_tabletop_other_process_gives_equal_bits() -> None:
    here: dict[str, Any] = {}
    exec(DIGEST, here)
    there = subprocess.run(
        [sys.executable, "-c", DIGEST + "print(digest.hexdigest())"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert there.stdout.strip() == here["digest"].hexdigest()
    assert here["digest"].hexdigest() != hashlib.sha256().hexdigest()


def test_tabletop_vector_reset_mask_leaves_other_rows() -> None:
    envs = TabletopVector(num_envs=3, height=24, width=32)
    envs.reset(seed=0)
    before = envs.step(np.full((3, 2), 0.02, np.float32))[0]
    mask = np.array([False, True, False])
    after, info = envs.reset(seed=[None, 99, None], options={"reset_mask": mask})
    assert [equal(row(before, i), row(after, i)) for i in range(3)] == [True, False, True]
    assert info["instruction"][1] == Tabletop(images=False).reset(seed=99)[1]["instruction"]
    envs.close()


def test_tabletop_reset_keep_board_changes_the_instruction_alone() -> None:
    env = Tabletop(images=False)
    env.reset(seed=4)
    env.step(np.float32([0.05, 0.0]))
    layout = env.layouts(np.arange(1))[0]
    instructions = [env.reset(options={"keep_board": True})[1]["instruction"] for _ in range(5)]
    kept_layout = env.layouts(np.arange(1))[0]
    assert np.array_equal(kept_layout.poses, layout.poses)
    assert np.array_equal(kept_layout.effector, layout.effector)
    assert len(set(instructions)) > 1
    assert not is_successful(env.tasks(np.arange(1))[0], kept_layout)
    repeated = [env.reset(seed=8, options={"keep_board": True})[1]["instruction"] for _ in range(2)]
    assert repeated[0] == repeated[1]


def test_tabletop_reset_given_instruction_keeps_the_seeds_layout() -> None:
    env = Tabletop(images=False)
    drawn = env.reset(seed=4)[0]
    instruction = "push the blue cube next to the green star"
    observation, info = env.reset(seed=4, options={"instruction": instruction})
    assert info["instruction"] == instruction
    assert equal(drawn, observation)
    assert [str(block) for block in env.tasks(np.arange(1))[0].blocks] == [
        "blue cube",
        "green star",
    ]


def test_tabletop_step_action_beyond_the_limit_is_clipped_and_counted() -> None:
    env = Tabletop(images=False)
    observations: list[Any] = []
    for size in (0.3, 0.1):
        env.reset(seed=1)
        observation, _, _, _, info = env.step(np.float32([size, 0.0]))
        observations.append(observation)
        assert info["clipped"] == (size > 0.1)
    assert equal(*observations)
    assert env.step(np.float32([-0.5, 0.0]))[4]["clipped"] == 1
    assert env.reset(seed=1)[1]["clipped"] == 0


def test_tabletop_demonstrator_solves_the_instructions_of_its_env() -> None:
    envs = TabletopVector(num_envs=4, images=False, families=("point",))
    demonstrator, robots = envs.demonstrator(4), np.arange(4)
    observation, info = envs.reset(seed=0)
    rngs = [np.random.default_rng(i) for i in robots]
    demonstrator.begin(robots, rngs)
    reached = np.zeros(4, dtype=bool)
    for _ in range(60):
        sensed = EncodedObservation.without_features(
            Observation(
                agent_pos=observation["agent_pos"], environment_state=np.zeros((4, 0), np.float32)
            )
        )
        actions = demonstrator.act(sensed, list(info["instruction"]), robots, rngs).actions
        observation, _, _, _, step_info = envs.step(actions)
        reached |= step_info["is_success"]
    assert reached.all()


def test_tabletop_demonstrator_of_a_single_env_for_two_robots_is_refused() -> None:
    with pytest.raises(EnvError, match="must serve one robot, got 2"):
        Tabletop(images=False).demonstrator(2)


def test_tabletop_vector_step_rows_leaves_the_others_unsimulated() -> None:
    envs = TabletopVector(num_envs=3, images=False)
    envs.reset(seed=0)
    before = envs.layouts(np.arange(3))
    rows = np.array([2, 0])
    observation, _, _, _, info = envs.step_rows(rows, np.full((2, 2), 0.03, np.float32))
    after = envs.layouts(np.arange(3))
    moved = [not np.array_equal(a.effector, b.effector) for a, b in zip(before, after, strict=True)]
    assert moved == [True, False, True]
    assert np.allclose(observation["agent_pos"], [after[2].effector, after[0].effector])
    assert info["clipped"].shape == (2,)
    envs.close()


def test_tabletop_vector_true_positions_are_those_of_the_layout() -> None:
    env = TabletopVector(3, families=("block2block", "block2place"))
    env.reset(seed=5)
    rows = np.array([2, 0])
    positions = env.true_positions(rows)
    assert isinstance(env, KnowsTruePositions)
    for row, (layout, task) in enumerate(zip(env.layouts(rows), env.tasks(rows), strict=True)):
        assert np.array_equal(positions.plane_m[row, 0], layout.position(task.blocks[0]))
        assert np.array_equal(positions.plane_m[row, 2], layout.effector)
        assert np.isnan(positions.plane_m[row, 1]).all() == (len(task.blocks) == 1)
        assert np.isnan(positions.image[row, 1]).all() == (len(task.blocks) == 1)
    point = np.append(positions.plane_m[0, 0], 0.0)
    column, row = SIM.camera.project(point, 96, 128)
    assert positions.image[0, 0] == pytest.approx([column / 128, row / 96])
    env.close()


def test_tabletop_vector_render_is_one_image_a_row_and_nothing_without_render_mode() -> None:
    envs = TabletopVector(num_envs=2, render_mode="rgb_array", images=False)
    envs.reset(seed=0)
    images = envs.render()
    assert images is not None
    assert [image.shape for image in images] == [(360, 640, 3)] * 2
    assert TabletopVector(num_envs=1, images=False).render() is None
    envs.close()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"instruction": "dance"}, "instruction must"),
        ({"instruction": "push the yellow star to the blue cube"}, "is not on the board"),
        ({"keep_bord": True}, "options must be of .*got \\['keep_bord'\\]"),
    ],
)
def test_tabletop_reset_bad_options_are_refused_and_change_nothing(
    options: dict[str, Any], sentence: str
) -> None:
    env = Tabletop(images=False, blocks=("blue cube", "red moon", "green star"))
    env.reset(seed=0)
    before = env.layouts(np.arange(1))[0]
    with pytest.raises(EnvError, match=sentence):
        env.reset(seed=1, options=options)
    assert np.array_equal(env.layouts(np.arange(1))[0].poses, before.poses)
