"""The pusher's path around blocks: shortest paths over points on a ring around each block.

The cost of a straight segment is its length, plus 3 m times the square of how deep it leads into
each block's clearance (0 outside, 1 over the centre): a narrow gap is taken when the detour is
long, and a block is hardly ever run over. The roadmap is valid while the blocks lie still; only
start and goal change from step to step.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nearer.core.arrays import Array
from nearer.envs.tabletop.layout import EFFECTOR_X_M, EFFECTOR_Y_M

_RING_POINTS = 6
_RING_ANGLES = np.arange(_RING_POINTS) * 2 * math.pi / _RING_POINTS
# 1 / cos(pi / 6) = 1.155: chords between neighbours on the ring stay just outside the clearance
_RING_XY = np.stack([np.cos(_RING_ANGLES), np.sin(_RING_ANGLES)], axis=-1) * 1.16
_COLLISION_COST_M = 3.0
"""Of a segment over a block's centre."""
_RELAXATIONS = 4
"""Rounds of Bellman-Ford: a path has at most so many ring points after its first."""
_NEAR_M = 0.008
"""A ring point within this distance counts as reached."""
_PERSISTENCE_M = 0.02
"""How much cheaper it is to go on in the last direction than to turn by 90 degrees."""
_SIDE_PREFERENCE_M = 0.02
"""How much dearer a turn of 90 degrees to the less preferred side is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roadmap:
    """Points on rings around discs, and the costs of the straight segments between them.

    Attributes:
        discs: centres of what is to be avoided.
        clearance_m: distance that the pusher's centre keeps from them.
        points: of the rings.
        costs: of the segments, in metres.
    """

    discs: Float64[Array, "discs 2"]
    clearance_m: float
    points: Float64[Array, "points 2"]
    costs: Float64[Array, "points points"]

    def fits(self, discs: Float64[Array, "discs 2"]) -> bool:
        """Return whether the discs still lie where they lay, within 2 mm."""
        return discs.shape == self.discs.shape and bool(np.abs(discs - self.discs).max() < 0.002)

    def heading(
        self,
        start: Float64[Array, "2"],
        goal: Float64[Array, "2"],
        last: Float64[Array, "2"],
        side_preference: float,
    ) -> Float64[Array, "2"]:
        """Return the direction in which the cheapest path starts.

        Args:
            start: where the pusher is.
            goal: where it goes.
            last: the direction of the step before; going on in it is a little cheaper.
            side_preference: in -1..1; above 0, leaving the straight line to the left costs a little
                more.
        """
        ends = np.concatenate([self.points, goal[None]])
        to_goal = _segment_costs(self.points, goal[None], self.discs, self.clearance_m)[:, 0]
        for _ in range(_RELAXATIONS):
            to_goal = np.minimum(to_goal, (self.costs + to_goal).min(axis=1))
        directions = ends - start
        distances = np.sqrt((directions * directions).sum(axis=1))
        directions /= np.maximum(distances, 1e-9)[:, None]
        costs = _segment_costs(start[None], ends, self.discs, self.clearance_m)[0]
        costs[:-1] += to_goal
        # the direction to a ring point that is already reached means nothing
        costs[:-1][distances[:-1] < _NEAR_M] = np.inf
        x, y = directions[-1]
        costs += _SIDE_PREFERENCE_M * side_preference * (directions @ np.array([-y, x]))
        costs -= _PERSISTENCE_M * (directions @ last)
        return directions[int(costs.argmin())]


def build_roadmap(discs: Float64[Array, "discs 2"], clearance_m: float) -> Roadmap:
    """Return the roadmap around discs; points beyond the pusher's reach are moved into it."""
    points = (discs[:, None] + clearance_m * _RING_XY).reshape(-1, 2)
    points[:, 0] = points[:, 0].clip(*EFFECTOR_X_M)
    points[:, 1] = points[:, 1].clip(*EFFECTOR_Y_M)
    costs = _segment_costs(points, points, discs, clearance_m)
    return Roadmap(discs=discs.copy(), clearance_m=clearance_m, points=points, costs=costs)


def is_clear(
    start: Float64[Array, "2"],
    goal: Float64[Array, "2"],
    discs: Float64[Array, "discs 2"],
    clearance_m: float,
) -> bool:
    """Return whether the straight segment keeps its clearance from all discs."""
    segment, offsets = goal - start, discs - start
    # how far along the segment its nearest point to each disc lies
    fraction = np.clip(offsets @ segment / max(float(segment @ segment), 1e-12), 0.0, 1.0)
    offsets = offsets - fraction[:, None] * segment
    return bool(((offsets * offsets).sum(axis=1) > clearance_m**2).all())


def _segment_costs(
    starts: Float64[Array, "starts 2"],
    ends: Float64[Array, "ends 2"],
    discs: Float64[Array, "discs 2"],
    clearance_m: float,
) -> Float64[Array, "starts ends"]:
    """Return the cost in metres of the straight segment from each start to each end.

    The hot spot of the demonstrator, therefore in place and by coordinate. Axes: disc, start, end.
    """
    x, y = ends[:, 0] - starts[:, :1], ends[:, 1] - starts[:, 1:]
    from_x = (discs[:, :1] - starts[:, 0])[..., None]
    from_y = (discs[:, 1:] - starts[:, 1])[..., None]
    squared = x * x + y * y
    fraction = from_x * x
    fraction += from_y * y
    fraction /= squared + 1e-12
    np.clip(fraction, 0.0, 1.0, out=fraction)
    off_x, off_y = from_x - fraction * x, from_y - fraction * y
    off_x *= off_x
    off_y *= off_y
    off_x += off_y
    depth = np.sqrt(off_x, out=off_x)
    depth /= -clearance_m
    depth += 1
    np.maximum(depth, 0.0, out=depth)
    depth *= depth
    return np.sqrt(squared) + _COLLISION_COST_M * depth.sum(axis=0)
