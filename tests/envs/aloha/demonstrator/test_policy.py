"""The scripted demonstrator solves both tasks, with human-like variety and after a miss."""

from dataclasses import replace

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Observation
from nearer.envs.aloha.demonstrator.noise import HUMAN_LIKE, NO_NOISE, MotionNoise
from nearer.envs.aloha.demonstrator.policy import AlohaDemonstrator
from nearer.envs.aloha.env import AlohaEnvVector
from nearer.envs.aloha.tasks import AlohaTask

pytestmark = pytest.mark.usefixtures("insertion")
LIMIT_STEPS = 400
TASKS = pytest.mark.parametrize("task", AlohaTask)


def an_env(task: AlohaTask, seeds: list[int]) -> AlohaEnvVector:
    envs = AlohaEnvVector(num_envs=len(seeds), task=str(task), images=False)
    envs.reset(seed=seeds)
    return envs


def observed(envs: AlohaEnvVector) -> EncodedObservation:
    """Return an empty observation: the demonstrator reads the ground truth."""
    return EncodedObservation.without_features(
        Observation(
            agent_pos=np.zeros((envs.num_envs, 0), np.float32),
            environment_state=np.zeros((envs.num_envs, 0), np.float32),
        )
    )


def demonstrate(
    envs: AlohaEnvVector, task: AlohaTask, noise: MotionNoise, seeds: list[int], more: int = 0
) -> tuple[list[int | None], list[Array]]:
    """Return the step of each row's success, and the actions of all rows."""
    rows = np.arange(envs.num_envs)
    demonstrator = AlohaDemonstrator(envs, task, envs.num_envs, noise)
    rngs = [np.random.default_rng([seed, 7]) for seed in seeds]
    demonstrator.begin(rows, rngs)
    solved: list[int | None] = [None] * envs.num_envs
    actions: list[Array] = []
    left = more
    for step in range(LIMIT_STEPS):
        actions.append(demonstrator.act(observed(envs), ["do it"] * len(rows), rows, rngs).actions)
        reward = envs.step(actions[-1])[1]
        solved = [
            step + 1 if before is None and reward[row] else before
            for row, before in enumerate(solved)
        ]
        if None not in solved:
            left -= 1
        if left < 0:
            break
    return solved, actions


@TASKS
def test_demonstrator_succeeds_with_human_like_variety(task: AlohaTask) -> None:
    seeds = [100, 101, 103]
    envs = an_env(task, seeds)
    solved, actions = demonstrate(envs, task, HUMAN_LIKE, seeds)
    assert None not in solved
    assert all(envs.single_action_space.contains(row) for step in actions for row in step)
    assert len(set(solved)) > 1
    envs.close()


@TASKS
def test_demonstrator_tries_again_after_a_miss(task: AlohaTask) -> None:
    misses = replace(NO_NOISE, miss_probability=1.0)
    needed = [
        demonstrate(an_env(task, [100]), task, noise, [100])[0][0] for noise in (NO_NOISE, misses)
    ]
    assert needed[0] is not None
    assert needed[1] is not None
    assert needed[1] > needed[0] + 30


def test_same_seeds_give_equal_actions_whoever_else_acts() -> None:
    task = AlohaTask.INSERTION
    alone = demonstrate(an_env(task, [102]), task, HUMAN_LIKE, [102])[1][:40]
    beside = demonstrate(an_env(task, [101, 102]), task, HUMAN_LIKE, [101, 102])[1][:40]
    assert all(np.array_equal(a[0], b[1]) for a, b in zip(alone, beside, strict=True))
