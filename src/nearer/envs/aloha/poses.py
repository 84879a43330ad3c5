"""Poses: where a frame is in another one, and how it is turned."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nearer.core.arrays import Array

Vector = Float64[Array, "3"]
Rotation = Float64[Array, "3 3"]
"""Its columns are the axes of the turned frame."""
_TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """A frame: the position of its origin in metres, and its rotation. `a @ b` is b seen from a."""

    position_m: Vector
    rotation: Rotation

    def __matmul__(self, other: "Pose") -> "Pose":
        return Pose(
            position_m=self.position_m + self.rotation @ other.position_m,
            rotation=self.rotation @ other.rotation,
        )

    def inverse(self) -> "Pose":
        """Return the pose that undoes this one."""
        return Pose(position_m=-self.rotation.T @ self.position_m, rotation=self.rotation.T.copy())


def translation(x_m: float, y_m: float = 0.0, z_m: float = 0.0) -> Pose:
    """Return a pose that is shifted and not turned."""
    return Pose(position_m=np.array([x_m, y_m, z_m]), rotation=np.eye(3))


def turned(axis: Vector, angle_rad: float) -> Rotation:
    """Return the rotation about a unit axis, by Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle_rad) * cross + (1 - math.cos(angle_rad)) * cross @ cross


def rotation_vector(rotation: Rotation) -> Vector:
    """Return the axis of a rotation times its angle in rad, for angles below pi."""
    doubled = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine = float(np.linalg.norm(doubled)) / 2
    if sine < _TINY:
        return doubled / 2
    return doubled / (2 * sine) * math.atan2(sine, (float(np.trace(rotation)) - 1) / 2)


def between(start: Pose, end: Pose, fraction: float) -> Pose:
    """Return the pose at a fraction of the way: a straight line, and an even turn."""
    turn = rotation_vector(start.rotation.T @ end.rotation)
    angle_rad = float(np.linalg.norm(turn))
    rotation = start.rotation
    if angle_rad > _TINY:
        rotation = rotation @ turned(turn / angle_rad, fraction * angle_rad)
    return Pose(
        position_m=start.position_m + fraction * (end.position_m - start.position_m),
        rotation=rotation,
    )


def from_quaternion(position_m: Vector, quaternion: Float64[Array, "4"]) -> Pose:
    """Return the pose at a position with a unit quaternion, its real part first."""
    real, imaginary = float(quaternion[0]), quaternion[1:]
    angle_rad = 2 * math.atan2(float(np.linalg.norm(imaginary)), real)
    length = float(np.linalg.norm(imaginary))
    axis = imaginary / length if length > _TINY else np.array([1.0, 0.0, 0.0])
    return Pose(position_m=position_m.copy(), rotation=turned(axis, angle_rad))
