"""Success of a task, tasks that are feasible in a layout, and the drawing of layouts.

The conditions are those of LanguageTable's public simulator (language_table/environments/rewards):

    block2block     centres closer than 0.05 m, whichever of the two moved
    block2place     within 0.115 m of the place, 0.1 m at the centre
    block2relative  within 0.04 m of the line from 0.5 to 1.1 of the offset
    point           the pusher closer than 0.05 m to the block's centre
    separate        ours: centres further apart than 0.1 m
    banana          ours: as block2place

Ours depend on the present layout alone. They leave out three conditions of LanguageTable's: that
separating ends within 0.025 m of a point fixed at the start, 0.1 m from the other's centre; that a
side counts only while the other block has moved by less than 0.05 m; that pointing is measured from
the pusher's target.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.tabletop.language import PLACES, SIDES, InstructionFamily, TabletopTask
from nearer.envs.tabletop.layout import (
    BANANA,
    BLOCK_X_M,
    BLOCK_Y_M,
    EFFECTOR_X_M,
    EFFECTOR_Y_M,
    WORKSPACE_X_M,
    WORKSPACE_Y_M,
    Block,
    BlockLayout,
)

TOUCHING_M = 0.05
PLACE_RADIUS_M = 0.115
CENTER_RADIUS_M = 0.1
BESIDE_RADIUS_M = 0.04
SEPARATE_M = 0.1
"""The distances of the table above."""
JOINED_M = 0.08
"""Blocks closer than this may be asked to be separated (published)."""
START_MARGIN_M = 0.01
"""How far from success block2block and point start (published)."""
RIM_M = 0.08
"""Blocks start, and sides are asked for, this far inside the workspace (published)."""
BEHIND_M = 0.042
"""From a block's centre to the pusher's, when it stands behind it: half a cube's diagonal, 26 mm,
the pusher's radius, 13 mm, and 3 mm. The banana needs more along its length; then the pusher
starts from its side.
"""
FREE_M = 0.037
"""No block's centre may be closer to a standing pusher."""
MAX_BLOCKS_AT_PLACE = 2
"""A place with so many other blocks is full."""
APART_M = 0.07
"""Between the centres of blocks at the start: the pusher (25 mm) nearly fits between two."""
BANANA_APART_M = 0.13
"""Between the centres of a banana and the pusher at the start."""
PUSHER_FREE_M = 0.06
"""Between the pusher and a block's centre at the start (published)."""
PUSHER_RIM_M = 0.03
"""The pusher starts this far inside the workspace."""
JOINED_START_M = (0.056, 0.075)
"""Between the centres of two blocks that are to be separated."""
_SEPARATION_PUSH_M = 0.08
"""Length of the push that separates two blocks; it must end on the board."""
_ANGLES = np.deg2rad([0, 35, -35, 65, -65, 90, -90])
_TURNS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
_MAX_DRAWS = 2000
"""Attempts at rejection sampling of a start, or of a free point."""


_TOP, _MIDDLE, _BOTTOM = WORKSPACE_X_M[0] - 0.025, 0.35, WORKSPACE_X_M[1] - 0.025
_LEFT, _RIGHT = WORKSPACE_Y_M
_PLACE_CENTRES = {
    "top left": (_TOP, _LEFT),
    "top": (_TOP, 0.0),
    "top right": (_TOP, _RIGHT),
    "left": (_MIDDLE, _LEFT),
    "center": (_MIDDLE, 0.0),
    "right": (_MIDDLE, _RIGHT),
    "bottom left": (_BOTTOM, _LEFT),
    "bottom": (_BOTTOM, 0.0),
    "bottom right": (_BOTTOM, _RIGHT),
}
"""The board's middle is 25 mm nearer to the base than the workspace's (published)."""
_SIDE_OFFSETS = {
    "above": (-0.08, 0.0),
    "below": (0.08, 0.0),
    "left": (0.0, -0.08),
    "right": (0.0, 0.08),
    "above left": (-0.04, -0.04),
    "above right": (-0.04, 0.04),
    "below left": (0.04, -0.04),
    "below right": (0.04, 0.04),
}


def target(task: TabletopTask, layout: BlockLayout) -> Float64[Array, "2"]:
    """Return the goal of the first block (POINT: of the pusher), in metres.

    For SEPARATE it lies straight away from the other block.
    """
    match task.family:
        case InstructionFamily.BLOCK_TO_PLACE | InstructionFamily.BANANA:
            assert task.place is not None
            return np.array(_PLACE_CENTRES[task.place])
        case InstructionFamily.BLOCK_TO_RELATIVE:
            assert task.place is not None
            return layout.position(task.blocks[1]) + _SIDE_OFFSETS[task.place]
        case InstructionFamily.SEPARATE:
            moved, other = map(layout.position, task.blocks)
            return other + (moved - other) / math.dist(moved, other) * (SEPARATE_M + 0.02)
        case InstructionFamily.BLOCK_TO_BLOCK | InstructionFamily.POINT:
            return layout.position(task.blocks[-1])


def is_successful(task: TabletopTask, layout: BlockLayout) -> bool:
    """Return whether a task is solved in this layout; the module's docstring has the conditions."""
    goal = target(task, layout)
    match task.family:
        case InstructionFamily.POINT:
            return math.dist(layout.effector, goal) < TOUCHING_M
        case InstructionFamily.BLOCK_TO_BLOCK:
            return math.dist(layout.position(task.blocks[0]), goal) < TOUCHING_M
        case InstructionFamily.SEPARATE:
            moved, other = map(layout.position, task.blocks)
            return math.dist(moved, other) > SEPARATE_M
        case InstructionFamily.BLOCK_TO_PLACE | InstructionFamily.BANANA:
            radius = CENTER_RADIUS_M if task.place == "center" else PLACE_RADIUS_M
            return math.dist(layout.position(task.blocks[0]), goal) < radius
        case InstructionFamily.BLOCK_TO_RELATIVE:
            return _lies_beside(
                layout.position(task.blocks[0]), layout.position(task.blocks[1]), goal
            )


def _lies_beside(moved: Array, other: Array, goal: Array) -> bool:
    """Return whether a block is near the line from 0.5 to 1.1 of the offset to the goal."""
    offset = goal - other
    fraction = float(np.clip((moved - other) @ offset / (offset @ offset), 0.5, 1.1))
    return math.dist(moved, other + fraction * offset) < BESIDE_RADIUS_M


def has_room_behind(
    block: Block, directions: Float64[Array, "directions 2"], layout: BlockLayout
) -> Bool[Array, "directions"]:
    """Return for each unit direction whether the pusher fits behind a block to push it there."""
    row = layout.blocks.index(block)
    spots = layout.poses[row, :2] - BEHIND_M * directions
    offsets = layout.poses[:, None, :2] - spots
    clear = (offsets * offsets).sum(axis=-1) > FREE_M**2
    clear[row] = True
    return clear.all(axis=0) & _within(spots, EFFECTOR_X_M, EFFECTOR_Y_M)


def _within(
    points: Float64[Array, "*points 2"],
    x_m: tuple[float, float],
    y_m: tuple[float, float],
    margin_m: float = 0.0,
) -> Bool[Array, "*points"]:
    """Return whether points lie in a rectangle, at least `margin_m` from its edges."""
    x, y = points[..., 0], points[..., 1]
    in_x = (x > x_m[0] + margin_m) & (x < x_m[1] - margin_m)
    return np.asarray(in_x & (y > y_m[0] + margin_m) & (y < y_m[1] - margin_m))


def separation_directions(
    task: TabletopTask, layout: BlockLayout
) -> Float64[Array, "directions 2"]:
    """Return the directions in which the first block can be pushed away from the second.

    Straight away comes first; then directions up to 90 degrees off it, for when the pusher does not
    fit between the two.
    """
    moved, other = map(layout.position, task.blocks)
    x, y = (moved - other) / math.dist(moved, other)
    directions = _TURNS @ np.array([[x, y], [-y, x]])
    ends = moved + _SEPARATION_PUSH_M * directions
    return directions[
        has_room_behind(task.blocks[0], directions, layout) & _within(ends, BLOCK_X_M, BLOCK_Y_M)
    ]


def is_feasible(task: TabletopTask, layout: BlockLayout) -> bool:
    """Return whether a task can be given in this layout.

    It is not solved yet, its goal is free, and the pusher fits behind the block.
    """
    if is_successful(task, layout):
        return False
    goal = target(task, layout)
    if task.family is InstructionFamily.POINT:
        return math.dist(layout.effector, goal) > TOUCHING_M + START_MARGIN_M
    start = layout.position(task.blocks[0])
    if task.family is InstructionFamily.SEPARATE:
        near = math.dist(start, layout.position(task.blocks[1])) < JOINED_M
        return near and len(separation_directions(task, layout)) > 0
    direction = (goal - start) / math.dist(goal, start)
    if not has_room_behind(task.blocks[0], direction[None], layout)[0]:
        return False
    if task.family is InstructionFamily.BLOCK_TO_BLOCK:
        return math.dist(start, goal) > TOUCHING_M + START_MARGIN_M
    distances_m = np.hypot(*(_bystanders(task, layout) - goal).T)
    if task.family is InstructionFamily.BLOCK_TO_RELATIVE:
        return bool(_within(goal, WORKSPACE_X_M, WORKSPACE_Y_M, RIM_M)) and bool(
            (distances_m > TOUCHING_M).all()
        )
    return int((distances_m < PLACE_RADIUS_M).sum()) < MAX_BLOCKS_AT_PLACE


def _bystanders(task: TabletopTask, layout: BlockLayout) -> Float64[Array, "others 2"]:
    """Return the positions of the blocks that a task does not name."""
    return layout.poses[[block not in task.blocks for block in layout.blocks], :2]


def _all_tasks(family: InstructionFamily, on_board: Sequence[Block]) -> list[TabletopTask]:
    """Return all tasks of a family for the blocks on a board, feasible or not."""
    blocks = [block for block in on_board if block != BANANA]
    match family:
        case InstructionFamily.BANANA:
            return [
                TabletopTask(family, (BANANA,), place) for place in PLACES if BANANA in on_board
            ]
        case InstructionFamily.POINT:
            return [TabletopTask(family, (block,)) for block in blocks]
        case InstructionFamily.BLOCK_TO_PLACE:
            return [
                TabletopTask(family, (b,), place) for b, place in itertools.product(blocks, PLACES)
            ]
        case InstructionFamily.BLOCK_TO_RELATIVE:
            pairs = itertools.permutations(blocks, 2)
            return [
                TabletopTask(family, pair, side) for pair, side in itertools.product(pairs, SIDES)
            ]
        case InstructionFamily.BLOCK_TO_BLOCK | InstructionFamily.SEPARATE:
            return [TabletopTask(family, pair) for pair in itertools.permutations(blocks, 2)]


def draw_task(
    layout: BlockLayout, families: Sequence[InstructionFamily], rng: np.random.Generator
) -> TabletopTask:
    """Draw a task that is feasible in a layout: a family first, then one of its tasks.

    Raises:
        EnvError: no task of these families is feasible.
    """
    for family in rng.permutation(len(families)):
        candidates = _all_tasks(families[int(family)], layout.blocks)
        for row in rng.permutation(len(candidates)):
            if is_feasible(candidates[int(row)], layout):
                return candidates[int(row)]
    raise EnvError(
        f"families must hold an instruction that is feasible now, got {', '.join(families)} with "
        f"{', '.join(map(str, layout.blocks))} on the board; reset it, or allow more families"
    )


def draw_layout(blocks: Sequence[Block], rng: np.random.Generator) -> BlockLayout:
    """Draw an initial layout: blocks apart from each other and from the rim, the pusher clear of
    them.

    Raises:
        EnvError: the blocks do not fit on the board.
    """
    positions: list[Array] = []
    for i, block in enumerate(blocks):
        room = [_room(block, other) for other in blocks[:i]]
        positions.append(_draw_free(RIM_M, positions, room, rng))
    effector = _draw_free(PUSHER_RIM_M, positions, [_room(block, None) for block in blocks], rng)
    yaws = rng.uniform(-math.pi, math.pi, len(blocks))
    return BlockLayout(
        blocks=tuple(blocks), poses=np.column_stack([positions, yaws]), effector=effector
    )


def draw_start(
    blocks: Sequence[Block], families: Sequence[InstructionFamily], rng: np.random.Generator
) -> tuple[BlockLayout, TabletopTask]:
    """Draw an initial layout and a feasible task of one of the families.

    For SEPARATE two blocks are put together first.

    Raises:
        EnvError: no layout was found in which the drawn family is feasible.
    """
    family = families[int(rng.integers(len(families)))]
    for _ in range(_MAX_DRAWS):
        layout = draw_layout(blocks, rng)
        if family is InstructionFamily.SEPARATE and len(blocks) > 1:
            layout = _join_two(layout, rng)
        try:
            return layout, draw_task(layout, [family], rng)
        except EnvError:
            continue
    raise EnvError(
        f"families must be feasible with the blocks on the board, got {family} with "
        f"{', '.join(map(str, blocks))}; put other blocks on it, or ask for other families"
    )


def _join_two(layout: BlockLayout, rng: np.random.Generator) -> BlockLayout:
    """Put one block next to another, in any direction; no change where there is no space."""
    moved, other = rng.choice(len(layout.blocks), 2, replace=False)
    angle, distance = rng.uniform(-math.pi, math.pi), rng.uniform(*JOINED_START_M)
    poses = layout.poses.copy()
    poses[moved, :2] = poses[other, :2] + distance * np.array([math.cos(angle), math.sin(angle)])
    rest = np.delete(poses, [moved, other], axis=0)[:, :2]
    near = np.hypot(*(np.vstack([rest, layout.effector]) - poses[moved, :2]).T) < PUSHER_FREE_M
    if near.any() or not _within(poses[moved, :2], WORKSPACE_X_M, WORKSPACE_Y_M, RIM_M):
        return layout
    return dataclasses.replace(layout, poses=poses)


def _room(block: Block, other: Block | None) -> float:
    """Return the least distance of a block's centre to another's, or (None) to the pusher's."""
    if BANANA in (block, other):
        return BANANA_APART_M
    return PUSHER_FREE_M if other is None else APART_M


def _draw_free(
    rim_m: float, taken: Sequence[Array], room: Sequence[float], rng: np.random.Generator
) -> Float64[Array, "2"]:
    """Draw a point in the workspace that keeps its distance `room` to each point that is taken."""
    (low_x, high_x), (low_y, high_y) = WORKSPACE_X_M, WORKSPACE_Y_M
    low, high = np.array([low_x, low_y]) + rim_m, np.array([high_x, high_y]) - rim_m
    for _ in range(_MAX_DRAWS):
        point = low + rng.random(2) * (high - low)
        if all(math.dist(point, p) > r for p, r in zip(taken, room, strict=True)):
            return point
    raise EnvError(
        f"blocks must fit on the board {APART_M} m apart, got more than {len(taken)}; take fewer"
    )
