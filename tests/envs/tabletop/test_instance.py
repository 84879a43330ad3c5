"""One tabletop instance: resets, instructions, success."""

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.envs.tabletop.instance import TabletopInstance
from nearer.envs.tabletop.settings import read_settings


def instance() -> TabletopInstance:
    return TabletopInstance(read_settings(images=False))


def test_reset_equal_seeds_give_equal_layouts_and_instructions() -> None:
    first, second = instance(), instance()
    first.reset(3)
    second.reset(None)
    second.reset(3)
    assert first.instruction == second.instruction
    assert np.array_equal(first.layout().poses, second.layout().poses)


def test_reset_keep_board_leaves_the_layout_and_clears_the_count_of_clips() -> None:
    tabletop = instance()
    tabletop.reset(4)
    tabletop.step(np.array([0.3, 0.0], np.float32))
    assert tabletop.num_clipped == 1
    layout = tabletop.layout()
    tabletop.reset(None, keep_board=True)
    assert np.array_equal(tabletop.layout().poses, layout.poses)
    assert tabletop.num_clipped == 0
    assert not tabletop.is_success


def test_task_before_a_reset_is_refused() -> None:
    with pytest.raises(EnvError, match="a task must be given first"):
        _ = instance().task


def test_step_before_a_reset_is_refused() -> None:
    with pytest.raises(EnvError, match="must be reset before it is stepped"):
        instance().step(np.zeros(2, np.float32))


def test_reset_keep_board_before_a_reset_is_refused() -> None:
    with pytest.raises(EnvError, match="keep_board must follow a reset"):
        instance().reset(0, keep_board=True)
