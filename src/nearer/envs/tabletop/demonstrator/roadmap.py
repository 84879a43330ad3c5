"""The pusher's way round blocks: shortest paths over points that ring each block.

The cost of a straight piece of way is its length, plus 3 m times the square of how deep it leads
into each block's clearance (0 outside, 1 over the centre): so a narrow gap is taken when the way
round is long, and a block is hardly ever run over. The roadmap holds while the blocks lie still;
only start and goal change from step to step.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nearer.core.arrays import Array
from nearer.envs.tabletop.layout import EFFECTOR_X_M, EFFECTOR_Y_M

_RING = 6
_RING_ANGLES = np.arange(_RING) * 2 * math.pi / _RING
# Chords between neighbours on the ring stay just outside the clearance.
_RING_XY = np.stack([np.cos(_RING_ANGLES), np.sin(_RING_ANGLES)], axis=-1) * 1.16
_TRESPASS_M = 3.0
_RELAXATIONS = 4
_NEAR_M = 0.008
_KEEP_ON_M, _HAND_M = 0.02, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Roadmap:
    """Points around discs, and what it costs to go straight from one to the other.

    Attributes:
        discs: the centres of what is to be avoided.
        clearance_m: how far the pusher's centre stays from them.
        points: of the rings.
        costs: of the straight ways between them, in metres.
    """

    discs: Float64[Array, "discs 2"]
    clearance_m: float
    points: Float64[Array, "points 2"]
    costs: Float64[Array, "points points"]

    def fits(self, discs: Float64[Array, "discs 2"]) -> bool:
        """Tell whether the discs still lie where they lay, within 2 mm."""
        return discs.shape == self.discs.shape and bool(np.abs(discs - self.discs).max() < 0.002)

    def heading(
        self,
        start: Float64[Array, "2"],
        goal: Float64[Array, "2"],
        last: Float64[Array, "2"],
        handedness: float,
    ) -> Float64[Array, "2"]:
        """Return the direction in which the cheapest path starts.

        Args:
            start: where the pusher is.
            goal: where it wants to be.
            last: the direction it went in before; going on in it is a little cheaper.
            handedness: in -1..1; leaving the straight line to the left is a little dearer above 0.
        """
        ends = np.concatenate([self.points, goal[None]])
        to_goal = _ways(self.points, goal[None], self.discs, self.clearance_m)[:, 0]
        for _ in range(_RELAXATIONS):
            to_goal = np.minimum(to_goal, (self.costs + to_goal).min(axis=1))
        directions = ends - start
        distances = np.sqrt((directions * directions).sum(axis=1))
        directions /= np.maximum(distances, 1e-9)[:, None]
        costs = _ways(start[None], ends, self.discs, self.clearance_m)[0]
        costs[:-1] += to_goal
        # standing on a point of the ring says nothing about where to go
        costs[:-1][distances[:-1] < _NEAR_M] = np.inf
        x, y = directions[-1]
        costs += _HAND_M * handedness * (directions @ np.array([-y, x]))
        costs -= _KEEP_ON_M * (directions @ last)
        return directions[int(costs.argmin())]


def build_roadmap(discs: Float64[Array, "discs 2"], clearance_m: float) -> Roadmap:
    """Return the roadmap around discs; points that the pusher cannot get to are moved inside."""
    points = (discs[:, None] + clearance_m * _RING_XY).reshape(-1, 2)
    points[:, 0] = points[:, 0].clip(*EFFECTOR_X_M)
    points[:, 1] = points[:, 1].clip(*EFFECTOR_Y_M)
    costs = _ways(points, points, discs, clearance_m)
    return Roadmap(discs=discs.copy(), clearance_m=clearance_m, points=points, costs=costs)


def is_clear(
    start: Float64[Array, "2"],
    goal: Float64[Array, "2"],
    discs: Float64[Array, "discs 2"],
    clearance_m: float,
) -> bool:
    """Tell whether the straight way keeps its clearance from all discs."""
    way, offsets = goal - start, discs - start
    share = np.clip(offsets @ way / max(float(way @ way), 1e-12), 0.0, 1.0)
    offsets = offsets - share[:, None] * way
    return bool(((offsets * offsets).sum(axis=1) > clearance_m**2).all())


def _ways(
    starts: Float64[Array, "starts 2"],
    ends: Float64[Array, "ends 2"],
    discs: Float64[Array, "discs 2"],
    clearance_m: float,
) -> Float64[Array, "starts ends"]:
    """Return what it costs to go straight from each start to each end."""
    # axes: disc, start, end
    x, y = ends[:, 0] - starts[:, :1], ends[:, 1] - starts[:, 1:]
    from_x = (discs[:, :1] - starts[:, 0])[..., None]
    from_y = (discs[:, 1:] - starts[:, 1])[..., None]
    squared = x * x + y * y
    share = from_x * x
    share += from_y * y
    share /= squared + 1e-12
    np.clip(share, 0.0, 1.0, out=share)
    off_x, off_y = from_x - share * x, from_y - share * y
    off_x *= off_x
    off_y *= off_y
    off_x += off_y
    depth = np.sqrt(off_x, out=off_x)
    depth /= -clearance_m
    depth += 1
    np.maximum(depth, 0.0, out=depth)
    depth *= depth
    return np.sqrt(squared) + _TRESPASS_M * depth.sum(axis=0)
