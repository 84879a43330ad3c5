"""Plan the direction of a push: around the other blocks, with room for the pusher behind.

Blocks are modelled as discs. The direction is the cheapest of 48; it looks ahead a few steps only,
and where no direction is free, other blocks are pushed along.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from nearer.core.arrays import Array
from nearer.envs.tabletop.layout import BANANA, EFFECTOR_X_M, EFFECTOR_Y_M, BlockLayout
from nearer.envs.tabletop.tasks import BEHIND_M, FREE_M

_AHEAD_M = 0.12
"""How far ahead of the block its path is checked for other blocks."""
_NUM_DIRECTIONS = 48
_TURNS = np.arange(_NUM_DIRECTIONS) * 2 * math.pi / _NUM_DIRECTIONS
_TURNS_XY = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=-1)
_PERSISTENCE = 0.15
"""Weight of going on in the last direction: keeps the plan from switching between two sides."""
# the discs lie along the banana's axis, an arc of 75 mm radius (meshes.py), within 3 mm
_BANANA_ANGLES = np.linspace(-0.85, 0.85, 7)
_BANANA_DISCS = 0.075 * np.stack([np.cos(_BANANA_ANGLES), np.sin(_BANANA_ANGLES)], -1) - [0.062, 0]
"""Centres of a bent row of discs, relative to the banana's pose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discs:
    """Discs that stand for the blocks: one a block, seven for a banana.

    Attributes:
        centres: in metres.
        owners: the row of each disc's block in the layout.
    """

    centres: Float64[Array, "discs 2"]
    owners: Int64[Array, "discs"]

    def of(self, row: int) -> Float64[Array, "own 2"]:
        """Return the discs of one block."""
        return self.centres[self.owners == row]

    def without(self, rows: Sequence[int]) -> Float64[Array, "others 2"]:
        """Return the discs of all blocks but some."""
        return self.centres[np.logical_and.reduce([self.owners != row for row in rows])]


def discs(layout: BlockLayout) -> Discs:
    """Return the discs that stand for the blocks."""
    owners = np.arange(len(layout.blocks))
    if BANANA not in layout.blocks:
        return Discs(centres=layout.poses[:, :2], owners=owners)
    row = layout.blocks.index(BANANA)
    x, y, yaw = layout.poses[row]
    turn = np.array([[math.cos(yaw), math.sin(yaw)], [-math.sin(yaw), math.cos(yaw)]])
    return Discs(
        centres=np.concatenate([layout.poses[owners != row, :2], _BANANA_DISCS @ turn + [x, y]]),
        owners=np.concatenate([owners[owners != row], np.full(len(_BANANA_DISCS), row)]),
    )


def reach_behind_m(
    own: Float64[Array, "own 2"],
    centre: Float64[Array, "2"],
    heading: Float64[Array, "2"],
    clearance_m: float,
) -> float:
    """Return how far behind a block's centre the pusher is free of all of the block's discs.

    The pusher comes along the line of the push. It leaves the clearance of a disc that lies
    `beside` this line at sqrt(clearance^2 - beside^2) behind that disc.
    """
    relative = own - centre
    behind, beside = -relative @ heading, relative @ left(heading)
    in_the_way = np.abs(beside) < clearance_m
    exits = behind[in_the_way] + np.sqrt(clearance_m**2 - beside[in_the_way] ** 2)
    return float(exits.max(initial=clearance_m))


def plan_push_direction(
    start: Float64[Array, "2"],
    goal: Float64[Array, "2"],
    avoided: Float64[Array, "discs 2"],
    clearance_m: float,
    last: Float64[Array, "2"],
) -> Float64[Array, "2"]:
    """Return the direction in which to push a block.

        cost = (1 - cos turn) + collision + crowding - 0.15 direction . last

    turn: angle away from the goal; collision: how deep the block's path leads into the clearance of
    others; crowding: how little room there is for the pusher behind the block. Ours; the weights
    were chosen on the demonstrator's success.

    Args:
        start: the block's centre.
        goal: where to push it.
        avoided: discs of the other blocks.
        clearance_m: between the block's centre and theirs.
        last: the direction of the step before; going on in it is a little cheaper.
    """
    x, y = (goal - start) / max(math.dist(goal, start), 1e-9)
    directions = _TURNS_XY @ np.array([[x, y], [-y, x]])
    spots = start - BEHIND_M * directions
    crowd_m = np.hypot(*(spots[:, None] - avoided).transpose(2, 0, 1))
    cost = (1 - _TURNS_XY[:, 0]) - _PERSISTENCE * (directions @ last)
    cost += _collision(
        start, directions, min(_AHEAD_M, math.dist(start, goal)), avoided, clearance_m
    )
    cost += np.maximum(1 - crowd_m / FREE_M, 0.0).sum(axis=1) + _outside(spots)
    return directions[int(cost.argmin())]


def left(direction: Float64[Array, "2"]) -> Float64[Array, "2"]:
    """Return a direction turned by 90 degrees, counter-clockwise seen from above."""
    return np.array([-direction[1], direction[0]])


def _collision(
    start: Float64[Array, "2"],
    directions: Float64[Array, "directions 2"],
    length_m: float,
    avoided: Float64[Array, "discs 2"],
    clearance_m: float,
) -> Float64[Array, "directions"]:
    """Return how deep a straight path in each direction leads into the clearances, summed.

    A disc counts 0 when the path stays clear of it and 1 when the path leads over its centre.
    """
    relative = avoided - start
    along = np.clip(directions @ relative.T, 0.0, length_m)
    x = relative[:, 0] - along * directions[:, :1]
    y = relative[:, 1] - along * directions[:, 1:]
    return np.maximum(1 - np.sqrt(x * x + y * y) / clearance_m, 0.0).sum(axis=1)


def _outside(points: Float64[Array, "directions 2"]) -> Float64[Array, "directions"]:
    """Return 1 for points that the pusher cannot reach, else 0."""

    x, y = points.T
    beyond_x = (x < EFFECTOR_X_M[0]) | (x > EFFECTOR_X_M[1])
    return (beyond_x | (y < EFFECTOR_Y_M[0]) | (y > EFFECTOR_Y_M[1])).astype(np.float64)
