"""What counts as fulfilled, what is asked for, and how boards are laid out."""

import math

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.envs.tabletop.language import Family, Task
from nearer.envs.tabletop.layout import (
    BANANA,
    BLOCK_X_M,
    BLOCK_Y_M,
    BLOCKS,
    EFFECTOR_X_M,
    EFFECTOR_Y_M,
    Block,
    Layout,
)
from nearer.envs.tabletop.tasks import (
    APART_M,
    PUSHER_FREE_M,
    draw_layout,
    draw_start,
    possible,
    propose,
    room_behind,
    solved,
    target,
    ways_apart,
)

MOON, CUBE = BLOCKS[0], BLOCKS[3]
PAIR = (MOON, CUBE)
ON_BLOCKS = [family for family in Family if family is not Family.BANANA]


Point = tuple[float, float]


def board(moon: Point, cube: Point, effector: Point = (0.2, -0.25)) -> Layout:
    poses = np.array([[*moon, 0.3], [*cube, -2.0]])
    return Layout(blocks=PAIR, poses=poses, effector=np.array(effector, dtype=np.float64))


@pytest.mark.parametrize(
    ("task", "fulfilled", "missed"),
    [
        (
            Task(Family.BLOCK_TO_BLOCK, PAIR),
            board((0.3, 0.1), (0.3, 0.149)),
            board((0.3, 0.1), (0.3, 0.151)),
        ),
        (
            Task(Family.BLOCK_TO_PLACE, (MOON,), "top left"),
            board((0.2, -0.22), (0.5, 0)),
            board((0.2, -0.21), (0.5, 0)),
        ),
        (
            Task(Family.BLOCK_TO_PLACE, (MOON,), "center"),
            board((0.35, 0.099), (0.5, 0)),
            board((0.35, 0.101), (0.5, 0)),
        ),
        (
            # right is y above zero, seen from the camera; the line runs from 0.04 to 0.088 m
            Task(Family.BLOCK_TO_RELATIVE, PAIR, "right"),
            board((0.3, 0.127), (0.3, 0.0)),
            board((0.3, 0.129), (0.3, 0.0)),
        ),
        (
            # above is towards the robot
            Task(Family.BLOCK_TO_RELATIVE, PAIR, "above"),
            board((0.32, 0.039), (0.4, 0.0)),
            board((0.48, 0.0), (0.4, 0.0)),
        ),
        (
            Task(Family.BLOCK_TO_RELATIVE, PAIR, "below right"),
            board((0.44, 0.04), (0.4, 0.0)),
            board((0.36, -0.04), (0.4, 0.0)),
        ),
        (
            Task(Family.POINT, (MOON,)),
            board((0.3, 0.1), (0.5, 0), (0.3, 0.149)),
            board((0.3, 0.1), (0.5, 0), (0.3, 0.151)),
        ),
        (
            Task(Family.SEPARATE, PAIR),
            board((0.3, 0.1), (0.3, 0.201)),
            board((0.3, 0.1), (0.3, 0.199)),
        ),
    ],
    ids=str,
)
def test_conditions(task: Task, fulfilled: Layout, missed: Layout) -> None:
    assert solved(task, fulfilled)
    assert not solved(task, missed)


def test_the_banana_goes_to_places() -> None:
    layout = Layout(
        blocks=(BANANA,), poses=np.array([[0.45, 0.2, 1.0]]), effector=np.array([0.2, 0.0])
    )
    assert not solved(Task(Family.BANANA, (BANANA,), "bottom"), layout)
    assert not solved(Task(Family.BANANA, (BANANA,), "bottom right"), layout)
    layout.poses[0, :2] = 0.5, 0.25
    assert solved(Task(Family.BANANA, (BANANA,), "bottom right"), layout)


def test_every_start_has_a_task_that_is_possible_and_open() -> None:
    rngs = np.random.default_rng(0)
    for family in Family:
        blocks = (BANANA,) if family is Family.BANANA else BLOCKS
        for _ in range(20):
            layout, task = draw_start(blocks, [family], rngs)
            assert task.family is family
            assert possible(task, layout)
            assert not solved(task, layout)


def test_layouts_leave_room() -> None:
    rngs = np.random.default_rng(1)
    for _ in range(50):
        layout = draw_layout(BLOCKS, rngs)
        centres = layout.poses[:, :2]
        gaps = [math.dist(p, q) for i, p in enumerate(centres) for q in centres[:i]]
        assert min(gaps) > APART_M
        assert min(math.dist(p, layout.effector) for p in centres) > PUSHER_FREE_M
        (near, far), (right, left) = BLOCK_X_M, BLOCK_Y_M
        assert ((centres > [near, right]) & (centres < [far, left])).all()
        alone = Layout(blocks=BLOCKS[:1], poses=layout.poses[:1], effector=layout.effector)
        angles = np.arange(16) * math.pi / 8
        ways = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        assert room_behind(BLOCKS[0], ways, alone).all(), "the rim leaves room on every side"


def test_equal_seeds_draw_equal_starts() -> None:
    (first, task), (second, other) = (
        draw_start(BLOCKS, ON_BLOCKS, np.random.default_rng(5)) for _ in range(2)
    )
    assert task == other
    assert np.array_equal(first.poses, second.poses)
    assert np.array_equal(first.effector, second.effector)


def test_all_families_are_proposed() -> None:
    rngs = np.random.default_rng(2)
    layout = board((0.4, 0.0), (0.4, 0.075))
    proposed = {propose(layout, ON_BLOCKS, rngs).family for _ in range(200)}
    assert proposed == set(ON_BLOCKS)


def test_a_block_that_the_pusher_cannot_get_behind_is_not_to_be_moved() -> None:
    moon, cube, star = BLOCKS[0], BLOCKS[3], BLOCKS[5]
    poses = np.array([[0.35, 0.0, 0.0], [0.35, 0.1, 0.0], [0.35, -0.045, 0.0]])
    layout = Layout(blocks=(moon, cube, star), poses=poses, effector=np.array([0.5, 0.2]))
    assert not possible(Task(Family.BLOCK_TO_BLOCK, (moon, cube)), layout), "the star stands there"
    assert possible(Task(Family.BLOCK_TO_BLOCK, (cube, moon)), layout)


def test_blocks_are_pulled_apart_sideways_when_nothing_fits_between() -> None:
    task = Task(Family.SEPARATE, PAIR)
    layout = board((0.375, 0.05), (0.375, 0.0))
    ways = ways_apart(task, layout)
    straight = np.array([0.0, 1.0])
    assert len(ways) > 0
    assert (ways @ straight < 0.95).all()
    assert possible(task, layout)


def test_nothing_possible_gets_a_sentence() -> None:
    done = board((0.375, 0.04), (0.375, 0.0))
    with pytest.raises(EnvError, match="block2block with red moon, blue cube on the board; reset"):
        propose(done, [Family.BLOCK_TO_BLOCK], np.random.default_rng(0))
    with pytest.raises(EnvError, match=r"must be possible with the blocks .* red moon; put other"):
        draw_start((MOON,), [Family.BLOCK_TO_BLOCK], np.random.default_rng(0))


def test_too_many_blocks_get_a_sentence() -> None:
    crowd = tuple(Block("red", f"shape {i}") for i in range(60))
    with pytest.raises(EnvError, match="must fit on the board"):
        draw_layout(crowd, np.random.default_rng(0))


def test_targets_lie_where_the_names_say() -> None:
    layout = board((0.3, 0.1), (0.4, 0.0))
    left = target(Task(Family.BLOCK_TO_RELATIVE, PAIR, "left"), layout)
    assert left == pytest.approx([0.4, -0.08])
    corner = target(Task(Family.BLOCK_TO_PLACE, (MOON,), "bottom left"), layout)
    assert corner == pytest.approx([0.575, -0.3048])
    for place in ("top left", "bottom right"):
        x, y = target(Task(Family.BLOCK_TO_PLACE, (MOON,), place), layout)
        nearest = np.clip([x, y], *np.transpose([BLOCK_X_M, BLOCK_Y_M]))
        assert math.dist(nearest, (x, y)) < 0.06, "a block can get well inside"
    assert EFFECTOR_X_M[0] < BLOCK_X_M[0] - 0.04
    assert EFFECTOR_Y_M[0] < BLOCK_Y_M[0] - 0.04
