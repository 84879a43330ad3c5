"""Success conditions, feasible tasks, and the drawing of layouts."""

import math

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.envs.tabletop.language import InstructionFamily, TabletopTask
from nearer.envs.tabletop.layout import (
    BANANA,
    BLOCK_X_M,
    BLOCK_Y_M,
    BLOCKS,
    Block,
    BlockLayout,
)
from nearer.envs.tabletop.tasks import (
    APART_M,
    PUSHER_FREE_M,
    draw_layout,
    draw_start,
    draw_task,
    has_room_behind,
    is_feasible,
    is_successful,
    separation_directions,
    target,
)

MOON, CUBE = BLOCKS[0], BLOCKS[3]
PAIR = (MOON, CUBE)
ON_BLOCKS = [family for family in InstructionFamily if family is not InstructionFamily.BANANA]


Point = tuple[float, float]


def layout_of(moon: Point, cube: Point, effector: Point = (0.2, -0.25)) -> BlockLayout:
    poses = np.array([[*moon, 0.3], [*cube, -2.0]])
    return BlockLayout(blocks=PAIR, poses=poses, effector=np.array(effector, dtype=np.float64))


@pytest.mark.parametrize(
    ("task", "solved", "unsolved"),
    [
        (
            TabletopTask(InstructionFamily.BLOCK_TO_BLOCK, PAIR),
            layout_of((0.3, 0.1), (0.3, 0.149)),
            layout_of((0.3, 0.1), (0.3, 0.151)),
        ),
        (
            TabletopTask(InstructionFamily.BLOCK_TO_PLACE, (MOON,), "top left"),
            layout_of((0.2, -0.22), (0.5, 0)),
            layout_of((0.2, -0.21), (0.5, 0)),
        ),
        (
            TabletopTask(InstructionFamily.BLOCK_TO_PLACE, (MOON,), "center"),
            layout_of((0.35, 0.099), (0.5, 0)),
            layout_of((0.35, 0.101), (0.5, 0)),
        ),
        (
            # right is y above zero, seen from the camera; the line runs from 0.04 to 0.088 m
            TabletopTask(InstructionFamily.BLOCK_TO_RELATIVE, PAIR, "right"),
            layout_of((0.3, 0.127), (0.3, 0.0)),
            layout_of((0.3, 0.129), (0.3, 0.0)),
        ),
        (
            # above is towards the robot
            TabletopTask(InstructionFamily.BLOCK_TO_RELATIVE, PAIR, "above"),
            layout_of((0.32, 0.039), (0.4, 0.0)),
            layout_of((0.48, 0.0), (0.4, 0.0)),
        ),
        (
            TabletopTask(InstructionFamily.BLOCK_TO_RELATIVE, PAIR, "below right"),
            layout_of((0.44, 0.04), (0.4, 0.0)),
            layout_of((0.36, -0.04), (0.4, 0.0)),
        ),
        (
            TabletopTask(InstructionFamily.POINT, (MOON,)),
            layout_of((0.3, 0.1), (0.5, 0), (0.3, 0.149)),
            layout_of((0.3, 0.1), (0.5, 0), (0.3, 0.151)),
        ),
        (
            TabletopTask(InstructionFamily.SEPARATE, PAIR),
            layout_of((0.3, 0.1), (0.3, 0.201)),
            layout_of((0.3, 0.1), (0.3, 0.199)),
        ),
    ],
    ids=str,
)
def test_is_successful_holds_inside_the_published_distance_only(
    task: TabletopTask, solved: BlockLayout, unsolved: BlockLayout
) -> None:
    assert is_successful(task, solved)
    assert not is_successful(task, unsolved)


def test_is_successful_banana_counts_at_its_place_only() -> None:
    layout = BlockLayout(
        blocks=(BANANA,), poses=np.array([[0.45, 0.2, 1.0]]), effector=np.array([0.2, 0.0])
    )
    assert not is_successful(TabletopTask(InstructionFamily.BANANA, (BANANA,), "bottom"), layout)
    assert not is_successful(
        TabletopTask(InstructionFamily.BANANA, (BANANA,), "bottom right"), layout
    )
    layout.poses[0, :2] = 0.5, 0.25
    assert is_successful(TabletopTask(InstructionFamily.BANANA, (BANANA,), "bottom right"), layout)


def test_draw_start_task_is_feasible_and_unsolved() -> None:
    rng = np.random.default_rng(0)
    for family in InstructionFamily:
        blocks = (BANANA,) if family is InstructionFamily.BANANA else BLOCKS
        for _ in range(20):
            layout, task = draw_start(blocks, [family], rng)
            assert task.family is family
            assert is_feasible(task, layout)
            assert not is_successful(task, layout)


def test_draw_layout_leaves_room_between_blocks_and_at_the_rim() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        layout = draw_layout(BLOCKS, rng)
        centres = layout.poses[:, :2]
        gaps = [math.dist(p, q) for i, p in enumerate(centres) for q in centres[:i]]
        assert min(gaps) > APART_M
        assert min(math.dist(p, layout.effector) for p in centres) > PUSHER_FREE_M
        (near, far), (right, left) = BLOCK_X_M, BLOCK_Y_M
        assert ((centres > [near, right]) & (centres < [far, left])).all()
        alone = BlockLayout(blocks=BLOCKS[:1], poses=layout.poses[:1], effector=layout.effector)
        angles = np.arange(16) * math.pi / 8
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        assert has_room_behind(BLOCKS[0], directions, alone).all(), (
            "the rim leaves room on every side"
        )


def test_draw_start_equal_seeds_give_equal_starts() -> None:
    (first, task), (second, other) = (
        draw_start(BLOCKS, ON_BLOCKS, np.random.default_rng(5)) for _ in range(2)
    )
    assert task == other
    assert np.array_equal(first.poses, second.poses)
    assert np.array_equal(first.effector, second.effector)


def test_draw_task_draws_every_feasible_family() -> None:
    rng = np.random.default_rng(2)
    layout = layout_of((0.4, 0.0), (0.4, 0.075))
    proposed = {draw_task(layout, ON_BLOCKS, rng).family for _ in range(200)}
    assert proposed == set(ON_BLOCKS)


def test_is_feasible_no_room_behind_the_block_is_infeasible() -> None:
    moon, cube, star = BLOCKS[0], BLOCKS[3], BLOCKS[5]
    poses = np.array([[0.35, 0.0, 0.0], [0.35, 0.1, 0.0], [0.35, -0.045, 0.0]])
    layout = BlockLayout(blocks=(moon, cube, star), poses=poses, effector=np.array([0.5, 0.2]))
    assert not is_feasible(TabletopTask(InstructionFamily.BLOCK_TO_BLOCK, (moon, cube)), layout), (
        "the star stands there"
    )
    assert is_feasible(TabletopTask(InstructionFamily.BLOCK_TO_BLOCK, (cube, moon)), layout)


def test_separation_directions_nothing_fits_between_go_sideways() -> None:
    task = TabletopTask(InstructionFamily.SEPARATE, PAIR)
    layout = layout_of((0.375, 0.05), (0.375, 0.0))
    directions = separation_directions(task, layout)
    straight = np.array([0.0, 1.0])
    assert len(directions) > 0
    assert (directions @ straight < 0.95).all()
    assert is_feasible(task, layout)


def test_draw_task_nothing_feasible_is_refused() -> None:
    done = layout_of((0.375, 0.04), (0.375, 0.0))
    with pytest.raises(EnvError, match="block2block with red moon, blue cube on the board; reset"):
        draw_task(done, [InstructionFamily.BLOCK_TO_BLOCK], np.random.default_rng(0))
    with pytest.raises(EnvError, match=r"must be feasible with the blocks .* red moon; put other"):
        draw_start((MOON,), [InstructionFamily.BLOCK_TO_BLOCK], np.random.default_rng(0))


def test_draw_layout_too_many_blocks_are_refused() -> None:
    crowd = tuple(Block("red", f"shape {i}") for i in range(60))
    with pytest.raises(EnvError, match="must fit on the board"):
        draw_layout(crowd, np.random.default_rng(0))


def test_target_lies_where_the_place_is_named() -> None:
    layout = layout_of((0.3, 0.1), (0.4, 0.0))
    left = target(TabletopTask(InstructionFamily.BLOCK_TO_RELATIVE, PAIR, "left"), layout)
    assert left == pytest.approx([0.4, -0.08])
    corner = target(TabletopTask(InstructionFamily.BLOCK_TO_PLACE, (MOON,), "bottom left"), layout)
    assert corner == pytest.approx([0.575, -0.3048])
    for place in ("top left", "bottom right"):
        x, y = target(TabletopTask(InstructionFamily.BLOCK_TO_PLACE, (MOON,), place), layout)
        nearest = np.clip([x, y], *np.transpose([BLOCK_X_M, BLOCK_Y_M]))
        assert math.dist(nearest, (x, y)) < 0.06, "a block can get well inside"
