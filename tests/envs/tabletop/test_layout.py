"""The board's geometry and the layout of its blocks."""

import numpy as np

from nearer.envs.tabletop.layout import (
    BLOCK_X_M,
    BLOCK_Y_M,
    BLOCKS,
    EFFECTOR_X_M,
    EFFECTOR_Y_M,
    BlockLayout,
)


def test_layout_position_is_the_blocks_x_and_y() -> None:
    poses = np.arange(24, dtype=np.float64).reshape(8, 3)
    layout = BlockLayout(blocks=BLOCKS, poses=poses, effector=np.zeros(2))
    assert layout.position(BLOCKS[2]).tolist() == [6.0, 7.0]


def test_effector_bounds_leave_room_behind_a_block_at_the_rim() -> None:
    for block_m, effector_m in ((BLOCK_X_M, EFFECTOR_X_M), (BLOCK_Y_M, EFFECTOR_Y_M)):
        assert effector_m[0] < block_m[0] - 0.04
        assert effector_m[1] > block_m[1] + 0.04


def test_blocks_are_eight_different_ones_named_by_colour_and_shape() -> None:
    assert len(set(map(str, BLOCKS))) == 8
    assert str(BLOCKS[0]) == "red moon"
