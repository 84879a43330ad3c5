"""Which way to push a block: round the others, and so that the pusher fits behind it.

Blocks are discs here. The direction is the one of least cost out of 48; that looks ahead a few
steps only, and where nothing better is to be had the others are pushed along.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from nearer.core.arrays import Array
from nearer.envs.tabletop.layout import BANANA, EFFECTOR_X_M, EFFECTOR_Y_M, Layout
from nearer.envs.tabletop.tasks import BEHIND_M, FREE_M

_AHEAD_M = 0.12
_NUM_WAYS = 48
_TURNS = np.arange(_NUM_WAYS) * 2 * math.pi / _NUM_WAYS
_TURNS_XY = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=-1)
_KEEP_ON = 0.15
_BANANA_ANGLES = np.linspace(-0.85, 0.85, 7)
_BANANA_DISCS = 0.075 * np.stack([np.cos(_BANANA_ANGLES), np.sin(_BANANA_ANGLES)], -1) - [0.062, 0]
"""A bent row of discs, about its centre of mass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discs:
    """Discs that stand for the blocks: one a block, seven for a banana.

    Attributes:
        centres: in metres.
        owners: the row of each one's block in the layout.
    """

    centres: Float64[Array, "discs 2"]
    owners: Int64[Array, "discs"]

    def of(self, row: int) -> Float64[Array, "own 2"]:
        """Return the discs of one block."""
        return self.centres[self.owners == row]

    def without(self, rows: Sequence[int]) -> Float64[Array, "others 2"]:
        """Return the discs of all blocks but some."""
        return self.centres[np.logical_and.reduce([self.owners != row for row in rows])]


def discs(layout: Layout) -> Discs:
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
    """Return how far behind a block's centre the pusher is free of all of the block's discs."""
    relative = own - centre
    behind, beside = -relative @ heading, relative @ left(heading)
    in_the_way = np.abs(beside) < clearance_m
    exits = behind[in_the_way] + np.sqrt(clearance_m**2 - beside[in_the_way] ** 2)
    return float(exits.max(initial=clearance_m))


def steer_block(
    start: Float64[Array, "2"],
    goal: Float64[Array, "2"],
    avoided: Float64[Array, "discs 2"],
    clearance_m: float,
    last: Float64[Array, "2"],
) -> Float64[Array, "2"]:
    """Return the direction to push a block in.

        cost = (1 - cos turn) + trespass + crowding + 0.15 (1 - way . last)

    turn: away from the goal; crowding: how little room there is for the pusher behind the block.
    Ours; the weights were chosen on the demonstrator's success.

    Args:
        start: the block's centre.
        goal: where it shall go.
        avoided: discs of the other blocks.
        clearance_m: between the block's centre and theirs.
        last: the direction before; going on in it is a little cheaper.
    """
    x, y = (goal - start) / max(math.dist(goal, start), 1e-9)
    ways = _TURNS_XY @ np.array([[x, y], [-y, x]])
    spots = start - BEHIND_M * ways
    crowd_m = np.hypot(*(spots[:, None] - avoided).transpose(2, 0, 1))
    cost = (1 - _TURNS_XY[:, 0]) - _KEEP_ON * (ways @ last)
    cost += _trespass(start, ways, min(_AHEAD_M, math.dist(start, goal)), avoided, clearance_m)
    cost += np.maximum(1 - crowd_m / FREE_M, 0.0).sum(axis=1) + _outside(spots)
    return ways[int(cost.argmin())]


def left(direction: Float64[Array, "2"]) -> Float64[Array, "2"]:
    """Return a direction turned by 90 degrees, counter-clockwise seen from above."""
    return np.array([-direction[1], direction[0]])


def _trespass(
    start: Float64[Array, "2"],
    ways: Float64[Array, "ways 2"],
    length_m: float,
    avoided: Float64[Array, "discs 2"],
    clearance_m: float,
) -> Float64[Array, "ways"]:
    """Return how deep a straight way in each direction leads into the clearance, summed.

    A disc counts 0 when it stays clear and 1 when the way leads over its centre.
    """
    relative = avoided - start
    along = np.clip(ways @ relative.T, 0.0, length_m)
    x = relative[:, 0] - along * ways[:, :1]
    y = relative[:, 1] - along * ways[:, 1:]
    return np.maximum(1 - np.sqrt(x * x + y * y) / clearance_m, 0.0).sum(axis=1)


def _outside(points: Float64[Array, "ways 2"]) -> Float64[Array, "ways"]:
    """Return 1 for points that the pusher cannot get to."""
    x, y = points.T
    beyond_x = (x < EFFECTOR_X_M[0]) | (x > EFFECTOR_X_M[1])
    return (beyond_x | (y < EFFECTOR_Y_M[0]) | (y > EFFECTOR_Y_M[1])).astype(np.float64)
