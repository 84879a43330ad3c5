"""Normalised inputs of the built-in model: positions in the robot's own plane, at three scales.

No calibrated camera is needed, the plane is estimated from demonstrations. Proprioception gives the
effector's position x, y and the vision encoder its image point u, v. Many such pairs determine the
map from the image to the plane that the effector moves in, a homography:

    (x, y) = (h1 u + h2 v + h3, h4 u + h5 v + h6) / (h7 u + h8 v + 1)

Source: Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 4.1, inhomogeneous
solution.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nearer.models.goal_region import offset_to_centre

_FIT_ROUNDS = 4
_INLIER_FRACTION = 0.7  # of the pairs, by residual: some encodings point at the wrong object
_MAX_PAIRS = 20_000
_MAX_RESIDUAL = 0.3  # of the effector's spread; above it the encoder does not see the effector
_NEAR_FRACTION = 0.4  # of the effector's spread: shorter offsets count as near
_INPUTS_PER_OFFSET = 5  # 2 linear, 2 saturating, 1 logarithmic
_RIM_INPUTS = 2  # 1 linear, 1 saturating
_RIM_SCALE = 0.1  # of the near length: so far from the rim is far


class PlanarFeatures(nn.Module):
    """Normalised positions of the objects that an instruction names, and of the effector.

    Two offsets are computed, from the effector to the first object and from there to the second.
    Each enters at three scales, because a centimetre decides near contact and is negligible across
    the table: linear, saturating, and the logarithm of its length. With linear offsets alone,
    cloning 300 demonstrations reached a success rate of 0.54, with all three 0.81 (docs/log.md).

    With goals, the offset from the first object to the centre of its goal region follows, and the
    distance from its rim, which is negative inside.

    Args:
        state: width of the state; its first two numbers may be the effector's x, y.
        max_deviation: inputs are clipped to +- this many standard deviations.
        mirror: coordinate that `mirrored` reflects, 0 or 1, if any; at the demonstrations' mean.
        goals: whether there are goal regions.

    Attributes:
        num_inputs: width of the normalised inputs.
    """

    def __init__(
        self, state: int, max_deviation: float, mirror: int | None = None, goals: bool = False
    ) -> None:
        super().__init__()
        self._goals = 2 + state + 2 * _INPUTS_PER_OFFSET  # where their inputs begin
        self.num_inputs = self._goals + goals * (_INPUTS_PER_OFFSET + _RIM_INPUTS)
        offsets = [2 + state + i * _INPUTS_PER_OFFSET for i in range(2 + goals)]
        self._mirror = mirror
        self._reflected = [] if mirror is None else [mirror, 2 + mirror]
        self._reflected_offsets = (
            []
            if mirror is None
            else [start + pair + mirror for start in offsets for pair in (0, 2)]
        )
        self.max_deviation = max_deviation
        self.plane = nn.Buffer(torch.eye(3))
        self.uses_proprioception = nn.Buffer(torch.zeros((), dtype=torch.bool))
        self.near = nn.Buffer(torch.ones(()))
        self.mean = nn.Buffer(torch.zeros(self.num_inputs))
        self.std = nn.Buffer(torch.ones(self.num_inputs))

    def fit(
        self, points: Float[Tensor, "samples objects 2"], state: Float[Tensor, "samples state"]
    ) -> None:
        """Estimate plane, length scale and statistics from the frames of demonstrations.

        The inputs of goal regions, which are not learned yet, wait for `fit_goal_statistics`.
        """
        self.fit_plane(points, state)
        positions = to_plane(self.plane, points[:, -1])
        self.near.copy_(_NEAR_FRACTION * lengths(positions - positions.mean(dim=0)).mean())
        self._fit_statistics(self._inputs(points, state, None), slice(0, self._goals))

    def fit_goal_statistics(
        self,
        points: Float[Tensor, "samples objects 2"],
        state: Float[Tensor, "samples state"],
        discs: Float[Tensor, "samples 4"],
    ) -> None:
        """Estimate the statistics of the goal regions' inputs alone; all others stay."""
        added = slice(self._goals, self.num_inputs)
        self._fit_statistics(self._inputs(points, state, discs)[:, added], added)

    def fit_plane(
        self, points: Float[Tensor, "samples objects 2"], state: Float[Tensor, "samples state"]
    ) -> None:
        """Estimate the map from the image to the plane alone; the statistics stay."""
        plane = fit_plane(points[:, -1], state[:, :2]) if state.shape[1] >= 2 else None
        self.uses_proprioception.fill_(plane is not None)
        self.plane.copy_(torch.eye(3) if plane is None else plane)

    def see_as(self, other: "PlanarFeatures") -> None:
        """Take over the map from the image to the plane."""
        self.plane.copy_(other.plane)
        self.uses_proprioception.copy_(other.uses_proprioception)

    def forward(
        self,
        points: Float[Tensor, "samples objects 2"],
        state: Float[Tensor, "samples state"],
        discs: Float[Tensor, "samples 4"] | None = None,
    ) -> Float[Tensor, "samples inputs"]:
        """Return the normalised inputs.

        Args:
            points: u, v of first object, second object and effector in the image.
            state: proprioception and environment state, in the env's units.
            discs: of the instructions, from `GoalRegion`; None without goals.
        """
        deviations = (self._inputs(points, state, discs) - self.mean) / self.std
        return deviations.clamp(-self.max_deviation, self.max_deviation)

    def mirrored(self, normalised: Float[Tensor, "samples inputs"]) -> Tensor:
        """Return the normalised inputs of the mirror images."""
        signs = torch.ones(self.num_inputs)
        signs[self._reflected + self._reflected_offsets] = -1
        return normalised * signs

    def reflected(self, positions: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Return positions in the plane as the mirror shows them."""
        assert self._mirror is not None, "only with a mirror"
        positions = positions.clone()
        positions[..., self._mirror] = 2 * self.mean[self._mirror] - positions[..., self._mirror]
        return positions

    def reflected_discs(self, discs: Float[Tensor, "samples 4"]) -> Float[Tensor, "samples 4"]:
        """Return goal regions as the mirror shows them."""
        share, point, radius = discs[:, :1], discs[:, 1:3], discs[:, 3:]
        # A point is that of a second object at the plane's origin, which the mirror moves.
        origin = self.reflected(torch.zeros(2))
        return torch.cat([share, self.reflected(point) - share * origin, radius], dim=1)

    def _fit_statistics(self, inputs: Tensor, columns: slice) -> None:
        std = inputs.std(dim=0)
        self.mean[columns] = inputs.mean(dim=0)
        self.mean[self._reflected_offsets] = 0  # an offset's mirror image is its negative
        # An input that never varies keeps its unit, instead of a division by zero.
        self.std[columns] = torch.where(std > 1e-6, std, torch.ones_like(std))

    def _inputs(self, points: Tensor, state: Tensor, discs: Tensor | None) -> Tensor:
        first, second, effector = to_plane(self.plane, points).unbind(dim=1)
        if self.uses_proprioception:  # exact, where the encoder's point is good to some pixels
            effector = state[:, :2]
        inputs = [effector, state, *self._scales(first - effector), *self._scales(second - first)]
        if discs is not None:
            offset = offset_to_centre(discs, first, second)
            rim = lengths(offset)[:, None] - discs[:, 3:]
            inputs += self._scales(offset)
            inputs += [rim, rim / (rim.abs() + _RIM_SCALE * self.near)]
        return torch.cat(inputs, dim=1)

    def _scales(self, offset: Float[Tensor, "samples 2"]) -> list[Tensor]:
        """Return an offset at three scales: linear, saturating, and its length's logarithm."""
        length = lengths(offset)[:, None]
        # offset / (length + near) is linear near contact and a direction far away. The constant
        # near / 4 bounds the logarithm at contact.
        return [offset, offset / (length + self.near), (length + self.near / 4).log()]


def fit_plane(
    points: Float[Tensor, "pairs 2"], positions: Float[Tensor, "pairs 2"]
) -> Float[Tensor, "3 3"] | None:
    """Return the homography from image to plane, or None where the pairs do not support one.

    Least squares, repeated on the inliers of the round before.

    Args:
        points: u, v of the effector in the image, from the vision encoder.
        positions: x, y of the effector, from proprioception.
    """
    stride = max(1, len(points) // _MAX_PAIRS)
    # float64: products of coordinates make the normal matrix badly conditioned in float32.
    points, positions = points[::stride].double(), positions[::stride].double()
    spread = lengths(positions - positions.mean(dim=0)).mean()
    if len(points) < 8 or spread == 0:
        return None
    inliers = torch.ones(len(points), dtype=torch.bool)
    plane = torch.eye(3, dtype=torch.float64)
    residual = spread
    for _ in range(_FIT_ROUNDS):
        plane = _least_squares(points[inliers], positions[inliers])
        errors = lengths(to_plane(plane, points) - positions)
        residual = errors.median()
        inliers = errors <= errors.quantile(_INLIER_FRACTION)
    return plane.float() if residual < _MAX_RESIDUAL * spread else None


def to_plane(
    plane: Float[Tensor, "3 3"], points: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch 2"]:
    """Return where image points lie in the plane."""
    ones = torch.ones_like(points[..., :1])
    mapped = torch.cat([points, ones], dim=-1) @ plane.T
    # The denominator reaches zero at the horizon; a point beyond it is mapped far away instead.
    return mapped[..., :2] / mapped[..., 2:].clamp(min=1e-2)


def lengths(vectors: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
    """Return the Euclidean norm of each vector."""
    return vectors.square().sum(dim=-1).sqrt()


def _least_squares(
    points: Float[Tensor, "pairs 2"], positions: Float[Tensor, "pairs 2"]
) -> Float[Tensor, "3 3"]:
    """Return the homography of least algebraic error: two linear equations a pair, h9 = 1."""
    u, v = points.T
    x, y = positions.T
    ones, zeros = torch.ones_like(u), torch.zeros_like(u)
    # x (h7 u + h8 v + 1) = h1 u + h2 v + h3, solved for x; the same for y.
    rows_x = torch.stack([u, v, ones, zeros, zeros, zeros, -u * x, -v * x], dim=1)
    rows_y = torch.stack([zeros, zeros, zeros, u, v, ones, -u * y, -v * y], dim=1)
    rows, values = torch.cat([rows_x, rows_y]).numpy(), torch.cat([x, y]).numpy()
    solution = np.linalg.lstsq(rows, values, rcond=None)[0]
    return torch.from_numpy(np.append(solution, 1.0)).reshape(3, 3)
