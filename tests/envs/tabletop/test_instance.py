"""One tabletop instance: resets, instructions, success."""

from itertools import pairwise

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


def test_reset_within_the_episodes_of_a_board_leaves_everything_where_it_is() -> None:
    tabletop = TabletopInstance(read_settings(images=False, board_episodes=3))
    layouts, instructions = [], set[str]()
    for seed in range(7):
        tabletop.reset(seed)
        assert not tabletop.is_success
        layouts.append(tabletop.layout().poses)
        instructions.add(tabletop.instruction)
    kept = [np.array_equal(before, now) for before, now in pairwise(layouts)]
    assert kept == [True, True, False, True, True, False]
    assert len(instructions) > 3
    fresh = instance()
    fresh.reset(3)
    assert np.array_equal(layouts[3], fresh.layout().poses), "a new board is its seed's"


def test_reset_of_a_board_on_which_nothing_is_feasible_lays_it_out_anew() -> None:
    settings = read_settings(
        images=False, families=("point",), blocks=("red moon",), board_episodes=9
    )
    tabletop = TabletopInstance(settings)
    tabletop.reset(0)
    before = tabletop.layout()
    for _ in range(60):  # to the only block, so that it is pointed at
        offset = before.poses[0, :2] - tabletop.layout().effector
        tabletop.step((offset / max(1.0, np.hypot(*offset) / 0.03)).astype(np.float32))
    assert tabletop.is_success
    tabletop.reset(1)
    assert not np.array_equal(tabletop.layout().effector, before.effector)
    assert not tabletop.is_success


def test_families_join_one_after_the_other() -> None:
    settings = read_settings(
        families=("point", "separate", "block2place"), mixture_episodes=10, images=False
    )
    joined = [len(settings.families_in(episode)) for episode in (0, 4, 5, 9, 10, 500)]
    assert joined == [1, 1, 2, 2, 3, 3]
    tabletop = TabletopInstance(settings)
    given = []
    for seed in range(60):
        tabletop.reset(seed)
        given.append(str(tabletop.task.family))
    assert set(given[:5]) == {"point"}
    assert set(given[5:10]) <= {"point", "separate"}
    assert set(given[10:]) == {"point", "separate", "block2place"}


@pytest.mark.parametrize("settings", [{"board_episodes": 0}, {"mixture_episodes": -1}])
def test_settings_of_no_episodes_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(EnvError, match=r"board_episodes must be 1 or more .* leave them out"):
        read_settings(**settings)
