"""Planning of pushes."""

import math

import numpy as np
import pytest

from nearer.envs.tabletop.demonstrator.push_planner import (
    discs,
    left,
    plan_push_direction,
    reach_behind_m,
)
from nearer.envs.tabletop.layout import BANANA, BLOCKS, BlockLayout

NO_DISCS = np.zeros((0, 2))


def layout_of_banana(yaw: float) -> BlockLayout:
    return BlockLayout(
        blocks=(BANANA,), poses=np.array([[0.4, 0.1, yaw]]), effector=np.array([0.2, 0.0])
    )


def test_left_is_90_degrees_counter_clockwise() -> None:
    assert left(np.array([1.0, 0.0])).tolist() == [0.0, 1.0]


def test_plan_push_direction_nothing_around_leads_straight_to_the_goal() -> None:
    start, goal = np.array([0.3, 0.0]), np.array([0.4, 0.1])
    direction = plan_push_direction(start, goal, NO_DISCS, 0.055, np.zeros(2))
    assert direction == pytest.approx([math.sqrt(0.5)] * 2)


def test_plan_push_direction_block_ahead_is_avoided() -> None:
    start, goal = np.array([0.3, 0.0]), np.array([0.5, 0.0])
    ahead = np.array([[0.37, 0.0]])
    direction = plan_push_direction(start, goal, ahead, 0.055, np.zeros(2))
    assert direction[0] > 0
    assert abs(direction[1]) > 0.4


def test_plan_push_direction_no_room_behind_turns_away() -> None:
    start, goal = np.array([0.3, 0.0]), np.array([0.5, 0.0])
    behind = np.array([[0.258, 0.0]])  # where the pusher would stand
    direction = plan_push_direction(start, goal, behind, 0.055, np.zeros(2))
    assert abs(direction[1]) > 0.1


def test_reach_behind_one_disc_is_its_clearance() -> None:
    centre, heading = np.array([0.4, 0.0]), np.array([1.0, 0.0])
    assert reach_behind_m(centre[None], centre, heading, 0.041) == pytest.approx(0.041)
    behind = centre + np.array([[-0.03, 0.0]])
    assert reach_behind_m(behind, centre, heading, 0.041) == pytest.approx(0.071)


def test_discs_blocks_have_one_each() -> None:
    poses = np.column_stack([np.linspace(0.2, 0.5, 8), np.zeros(8), np.zeros(8)])
    layout = BlockLayout(blocks=BLOCKS, poses=poses, effector=np.array([0.2, -0.2]))
    block_discs = discs(layout)
    assert np.array_equal(block_discs.centres, poses[:, :2])
    assert block_discs.of(3).tolist() == [poses[3, :2].tolist()]
    assert len(block_discs.without((3, 5))) == 6


def test_discs_banana_has_seven_that_turn_with_it() -> None:
    upright, turned = (discs(layout_of_banana(yaw)) for yaw in (0.0, math.pi / 2))
    assert upright.centres.shape == (7, 2)
    middle = np.array([0.4, 0.1])
    relative = upright.centres - middle
    assert turned.centres - middle == pytest.approx(
        np.column_stack([-relative[:, 1], relative[:, 0]])
    )
