"""Starts and instructions are drawn from the generator, within their ranges."""

import numpy as np
import pytest

from nearer.envs.aloha.tasks import (
    INSTRUCTIONS,
    OBJECTS,
    AlohaTask,
    draw_instruction,
    draw_object_poses,
)


@pytest.mark.parametrize("task", AlohaTask)
def test_objects_lie_on_the_table_within_their_ranges(task: AlohaTask) -> None:
    for seed in range(50):
        poses = draw_object_poses(task, np.random.default_rng(seed))
        for (x_m, y_m, z_m, *quaternion), item in zip(poses, OBJECTS[task], strict=True):
            assert item.x_m[0] <= x_m <= item.x_m[1]
            assert item.y_m[0] <= y_m <= item.y_m[1]
            assert z_m == item.rest_z_m
            assert quaternion == [1, 0, 0, 0]


@pytest.mark.parametrize("task", AlohaTask)
def test_every_wording_is_drawn(task: AlohaTask) -> None:
    rng = np.random.default_rng(0)
    assert {draw_instruction(task, rng) for _ in range(60)} == set(INSTRUCTIONS[task])
