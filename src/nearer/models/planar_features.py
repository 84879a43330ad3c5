"""Where things are, as a network likes to read it: in the robot's own plane, at several scales.

No calibrated camera is needed, the plane is learned from demonstrations.

The robot knows where its effector is, and the sight points at the effector in the picture. From
many such pairs follows the map of the plane that the effector moves in, a homography:

    (x, y) = (h1 u + h2 v + h3, h4 u + h5 v + h6) / (h7 u + h8 v + 1)

Source: Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 4.1, inhomogeneous
solution.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

_ROUNDS = 4
_KEPT_SHARE = 0.7  # of the pairs, by residual: the sight is wrong now and then
_MOST_PAIRS = 20_000
_LARGEST_RESIDUAL = 0.3  # of the effector's spread; beyond it the sight does not see the effector
_NEAR_SHARE = 0.4  # of the effector's spread: what is nearer than this is near
_NUMBERS_A_GAP = 5


class Geometry(nn.Module):
    """Facts about where the things are that an instruction names, and where the effector is.

    Each gap, from effector to first thing and from there to the second, counts at three scales,
    since a centimetre decides near contact and means nothing across the table: as it is,
    saturating, and its length as a logarithm. With the gaps alone as they are, cloning 300
    demonstrations reached 0.54 where it reaches 0.81 with all three (docs/log.md).

    Args:
        state: numbers that a robot feels; the first two may be its effector's place.
        max_deviation: facts are clipped to +- this many standard deviations.
    """

    def __init__(self, state: int, max_deviation: float) -> None:
        super().__init__()
        self.num_facts = 2 + state + 2 * _NUMBERS_A_GAP
        self.max_deviation = max_deviation
        self.plane = nn.Buffer(torch.eye(3))
        self.feels = nn.Buffer(torch.zeros((), dtype=torch.bool))
        self.near = nn.Buffer(torch.ones(()))
        self.mean = nn.Buffer(torch.zeros(self.num_facts))
        self.std = nn.Buffer(torch.ones(self.num_facts))

    def fit(
        self, points: Float[Tensor, "samples things 2"], state: Float[Tensor, "samples state"]
    ) -> None:
        """Learn plane, scale and statistics from the frames of demonstrations."""
        effector = points[:, -1]
        plane = fit_plane(effector, state[:, :2]) if state.shape[1] >= 2 else None
        self.feels.fill_(plane is not None)
        self.plane.copy_(torch.eye(3) if plane is None else plane)
        places = to_plane(self.plane, effector)
        self.near.copy_(_NEAR_SHARE * lengths(places - places.mean(dim=0)).mean())
        facts = self._facts(points, state)
        std = facts.std(dim=0)
        self.mean.copy_(facts.mean(dim=0))
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    def forward(
        self, points: Float[Tensor, "samples things 2"], state: Float[Tensor, "samples state"]
    ) -> Float[Tensor, "samples facts"]:
        """Return the facts, normalised.

        Args:
            points: u, v of first thing, second thing and effector in the picture.
            state: what the robot feels, in its own units.
        """
        deviations = (self._facts(points, state) - self.mean) / self.std
        return deviations.clamp(-self.max_deviation, self.max_deviation)

    def _facts(self, points: Tensor, state: Tensor) -> Tensor:
        first, second, effector = to_plane(self.plane, points).unbind(dim=1)
        if self.feels:
            effector = state[:, :2]
        facts = [effector, state]
        for gap in (first - effector, second - first):
            length = lengths(gap)[:, None]
            facts += [gap, gap / (length + self.near), (length + self.near / 4).log()]
        return torch.cat(facts, dim=1)


def fit_plane(
    points: Float[Tensor, "pairs 2"], places: Float[Tensor, "pairs 2"]
) -> Float[Tensor, "3 3"] | None:
    """Return the homography from picture to plane, or None where the pairs do not support one.

    Args:
        points: u, v of the effector in the picture, as the sight sees it.
        places: x, y of the effector, as the robot feels it.
    """
    every = max(1, len(points) // _MOST_PAIRS)
    points, places = points[::every].double(), places[::every].double()
    spread = lengths(places - places.mean(dim=0)).mean()
    if len(points) < 8 or spread == 0:
        return None
    kept = torch.ones(len(points), dtype=torch.bool)
    plane = torch.eye(3, dtype=torch.float64)
    residual = spread
    for _ in range(_ROUNDS):
        plane = _least_squares(points[kept], places[kept])
        errors = lengths(to_plane(plane, points) - places)
        residual = errors.median()
        kept = errors <= errors.quantile(_KEPT_SHARE)
    return plane.float() if residual < _LARGEST_RESIDUAL * spread else None


def to_plane(
    plane: Float[Tensor, "3 3"], points: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch 2"]:
    """Return where points of the picture lie in the plane."""
    ones = torch.ones_like(points[..., :1])
    mapped = torch.cat([points, ones], dim=-1) @ plane.T
    return mapped[..., :2] / mapped[..., 2:].clamp(min=1e-2)


def lengths(vectors: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
    """Return how long each vector is."""
    return vectors.square().sum(dim=-1).sqrt()


def _least_squares(
    points: Float[Tensor, "pairs 2"], places: Float[Tensor, "pairs 2"]
) -> Float[Tensor, "3 3"]:
    u, v = points.T
    x, y = places.T
    one, none = torch.ones_like(u), torch.zeros_like(u)
    rows_x = torch.stack([u, v, one, none, none, none, -u * x, -v * x], dim=1)
    rows_y = torch.stack([none, none, none, u, v, one, -u * y, -v * y], dim=1)
    rows, values = torch.cat([rows_x, rows_y]).numpy(), torch.cat([x, y]).numpy()
    solution = np.linalg.lstsq(rows, values, rcond=None)[0]
    return torch.from_numpy(np.append(solution, 1.0)).reshape(3, 3)
