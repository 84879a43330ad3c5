"""The ALOHA tasks as Gymnasium envs: contracts, determinism, bad input, demonstrations."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from nearer.cli import main
from nearer.core.errors import EnvError
from nearer.envs.aloha.env import AlohaEnv, AlohaEnvVector
from nearer.envs.aloha.tasks import INSTRUCTIONS, AlohaTask
from nearer.fleets.env_settings import EnvSettings
from nearer.fleets.gym import make_fleet
from nearer.testing import check_fleet

INSERTION, TRANSFER_CUBE = "nearer/AlohaInsertion-v0", "nearer/AlohaTransferCube-v0"
IDS = {INSERTION: "insertion", TRANSFER_CUBE: "transfer_cube"}
START = np.array([0, -0.96, 1.16, 0, -0.3, 0, 0.1] * 2, np.float32)
installed = pytest.mark.usefixtures("insertion")
"""Skips where gym-aloha is not installed."""


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            equal(first[key], second[key]) for key in first
        )
    return np.array_equal(first, second)


def row(batch: dict[str, Any], i: int) -> dict[str, Any]:
    return {key: row(part, i) if isinstance(part, dict) else part[i] for key, part in batch.items()}


@installed
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized space", "ignore:.*infinity")
@pytest.mark.parametrize("env_id", IDS)
def test_env_passes_gymnasium_check(env_id: str) -> None:
    env = gymnasium.make(env_id, render_mode="rgb_array", height=24, width=32)
    check_env(env.unwrapped)
    observation, info = env.reset(seed=0)
    assert info["instruction"] in INSTRUCTIONS[AlohaTask(IDS[env_id])]
    assert not info["is_success"]
    assert env.observation_space.contains(observation)
    assert env.render().shape == (480, 640, 3)
    assert env.unwrapped.control_hz == 50
    env.close()


@installed
@pytest.mark.parametrize(("env_id", "numbers"), [(INSERTION, 14), (TRANSFER_CUBE, 7)])
def test_fleet_keeps_the_contract(env_id: str, numbers: int) -> None:
    settings = EnvSettings(env_kwargs=("object_poses=true", "height=24", "width=32"))
    fleet = make_fleet(env_id, 2, settings)
    assert [str(camera) for camera in fleet.spaces.cameras] == [
        "front_close 24x32",
        "right_wrist 24x32",
    ]
    assert (fleet.spaces.agent_pos, fleet.spaces.environment_state) == (14, numbers)
    assert (fleet.spaces.action, fleet.spaces.control_hz) == (14, 50)
    check_fleet(fleet)
    fleet.close()


@installed
def test_action_space_allows_the_start() -> None:
    env = AlohaEnv(task="insertion", images=False)
    assert env.action_space.contains(START)
    assert env.action_space.high[2] == np.float32(1.6057)
    assert (env.action_space.low[6], env.action_space.high[13]) == (0, 1)


@installed
def test_object_poses_are_unit_quaternions_and_positions() -> None:
    env = AlohaEnv(task="insertion", images=False, object_poses=True)
    observation, _ = env.reset(seed=0)
    peg, socket = observation["environment_state"].reshape(2, 7)
    assert 0.1 <= peg[0] <= 0.2
    assert -0.2 <= socket[0] <= -0.1
    for _ in range(5):
        observation = env.step(START)[0]
    quaternions = observation["environment_state"].reshape(2, 7)[:, 3:]
    assert np.allclose(np.linalg.norm(quaternions, axis=1), 1)


@installed
def test_same_seed_and_actions_give_equal_bits_in_a_fresh_and_a_reused_env() -> None:
    envs = [AlohaEnv(task="transfer_cube", height=24, width=32) for _ in range(2)]
    envs[0].reset(seed=9)
    for _ in range(5):
        envs[0].step(START + np.float32(0.05))
    starts = [env.reset(seed=4) for env in envs]
    assert starts[0][1] == starts[1][1]
    assert equal(starts[0][0], starts[1][0])
    for _ in range(8):
        first, second = (env.step(START + np.float32(0.03))[0] for env in envs)
        assert equal(first, second)
    for env in envs:
        env.close()


@installed
def test_a_slower_camera_shows_its_last_image_again() -> None:
    arguments: dict[str, Any] = {"task": "insertion", "height": 24, "width": 32}
    slow, fast = AlohaEnv(camera_hz=10, **arguments), AlohaEnv(**arguments)
    for _ in range(2):  # a reset begins with an image
        shown = [slow.reset(seed=4)[0]]
        every = [fast.reset(seed=4)[0]]
        for step in range(7):
            action = START + np.float32(0.05 * (step + 1))
            shown.append(slow.step(action)[0])
            every.append(fast.step(action)[0])
        for step, observation in enumerate(shown):
            assert equal(observation["pixels"], every[step - step % 5]["pixels"])
            assert equal(observation["agent_pos"], every[step]["agent_pos"])
        assert not equal(every[5]["pixels"], every[4]["pixels"])
        shown[5]["pixels"]["right_wrist"][:] = 0  # whose it is may change it
        assert shown[6]["pixels"]["right_wrist"].any()
    slow.close()
    fast.close()


@installed
def test_resets_without_a_seed_go_on_with_the_last_one() -> None:
    env = AlohaEnv(task="insertion", images=False, object_poses=True)
    runs: list[list[Any]] = []
    for _ in range(2):
        runs.append([env.reset(seed=3)[0], env.reset()[0], env.reset()[0]])
    assert equal(dict(enumerate(runs[0])), dict(enumerate(runs[1])))
    assert not equal(runs[0][0], runs[0][1])


@installed
def test_vector_equals_single_envs_bit_for_bit() -> None:
    arguments: dict[str, Any] = {"task": "insertion", "height": 24, "width": 32}
    vector = AlohaEnvVector(num_envs=2, **arguments)
    singles = [AlohaEnv(**arguments) for _ in range(2)]
    observation, info = vector.reset(seed=5)
    starts = [env.reset(seed=5 + i) for i, env in enumerate(singles)]
    observations = [start for start, _ in starts]
    assert info["instruction"].tolist() == [info["instruction"] for _, info in starts]
    rng = np.random.default_rng(0)
    for _ in range(6):
        assert all(equal(row(observation, i), observations[i]) for i in range(2))
        actions = (START + rng.normal(0, 0.05, (2, 14))).astype(np.float32)
        observation, reward, _, _, _ = vector.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        observations = [step[0] for step in steps]
        assert reward.tolist() == [step[1] for step in steps]
    for env in (vector, *singles):
        env.close()


@installed
def test_vector_resets_and_steps_some_rows_and_leaves_the_others() -> None:
    envs = AlohaEnvVector(num_envs=3, task="insertion", images=False)
    before, _ = envs.reset(seed=0)
    observation, _, _, _, info = envs.step_rows(np.array([2, 0]), np.tile(START + 0.1, (2, 1)))
    assert observation["agent_pos"].shape == (2, 14)
    assert info["is_success"].shape == (2,)
    mask = np.array([False, False, True])
    after, _ = envs.reset(seed=[None, None, 2], options={"reset_mask": mask})
    assert [equal(row(before, i), row(after, i)) for i in range(3)] == [False, True, True]
    envs.close()


@installed
def test_physics_that_blows_up_truncates_the_episode_until_the_next_reset() -> None:
    env = AlohaEnv(task="insertion", images=False)
    env.action_space.seed(0)
    truncated = False
    for seed in range(10):
        env.reset(seed=seed)
        for _ in range(200):
            truncated = truncated or env.step(env.action_space.sample())[3]
        if truncated:
            break
    observation, reward, _, truncated, info = env.step(START)
    assert (reward, truncated, info["is_success"]) == (0.0, True, False)
    assert np.isfinite(observation["agent_pos"]).all()
    fresh = AlohaEnv(task="insertion", images=False)
    assert equal(env.reset(seed=1)[0], fresh.reset(seed=1)[0])
    assert not env.step(START)[3]


@installed
def test_step_before_reset_and_unknown_options_are_refused() -> None:
    env = AlohaEnv(task="insertion", images=False)
    with pytest.raises(EnvError, match="must be reset before it is stepped"):
        env.step(START)
    with pytest.raises(EnvError, match="options must be of none, got reset_maks"):
        env.reset(seed=0, options={"reset_maks": 1})


@installed
def test_demonstrator_for_another_number_of_robots_is_refused() -> None:
    with pytest.raises(EnvError, match="must serve the env's 1 pairs of arms, got 2"):
        AlohaEnv(task="insertion", images=False).demonstrator(2)


@pytest.mark.parametrize("env_id", IDS)
def test_env_without_gym_aloha_says_what_to_install(
    env_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gym_aloha", None)
    monkeypatch.setitem(sys.modules, "gym_aloha.constants", None)
    with pytest.raises(EnvError, match=r"must have gym-aloha.*pip install 'nearer\[aloha\]'"):
        make_fleet(env_id, 2)


@installed
def test_collect_writes_demonstrations(tmp_path: Path) -> None:
    kwargs = json.dumps({"images": False, "object_poses": True})
    flags = ["--episodes", "2", "--num-envs", "2", "--max-steps", "400"]
    out = tmp_path / "demonstrations"
    main(["collect", "--env", TRANSFER_CUBE, "--env-kwargs", kwargs, *flags, "--out", str(out)])
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["fps"], info["total_episodes"]) == (50, 2)
    assert info["features"]["observation.environment_state"]["shape"] == [7]
