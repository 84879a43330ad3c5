"""A pinhole camera over the board, and the projection of points into its image.

`project` is for measuring how well a vision encoder localises: training must not know the camera.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from nearer.core.arrays import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class PinholeCamera:
    """Pose and field of view of a camera.

    Attributes:
        position_m: of its pinhole, in the robot's frame.
        target_m: the point in the middle of its image.
        roll_rad: rotation about its viewing direction, clockwise seen from behind it.
        field_of_view_rad: vertical, of images that are 4:3 or wider. Narrower ones show as much
            from left to right as 4:3.
    """

    position_m: tuple[float, float, float]
    target_m: tuple[float, float, float]
    roll_rad: float
    field_of_view_rad: float

    def axes(self) -> Float64[Array, "3 3"]:
        """Return the unit vectors to the image's right, to its top, and back to the camera."""
        back = np.subtract(self.position_m, self.target_m)
        back /= np.linalg.norm(back)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        up = np.cross(back, right)
        cosine, sine = np.cos(self.roll_rad), np.sin(self.roll_rad)
        return np.stack([cosine * right - sine * up, sine * right + cosine * up, back])

    def vertical_view_rad(self, height_to_width: float) -> float:
        """Return the vertical field of view of an image with this aspect ratio."""
        return 2 * float(
            np.arctan(np.tan(self.field_of_view_rad / 2) * max(1.0, 4 / 3 * height_to_width))
        )

    def project(
        self, points_m: Float[Array, "*batch 3"], height: int, width: int
    ) -> Float64[Array, "*batch 2"]:
        """Return the column and the row of points in an image; (0, 0) is its upper left.

        Column = w / 2 + f x / z and row = h / 2 - f y / z, where x, y, z lie to the right, above
        and in front of the camera, and f = h / (2 tan(vertical view / 2)) pixels.
        """
        x, y, behind = np.moveaxis((points_m - np.array(self.position_m)) @ self.axes().T, -1, 0)
        focal = height / (2 * np.tan(self.vertical_view_rad(height / width) / 2))
        return np.stack([width / 2 - focal * x / behind, height / 2 + focal * y / behind], axis=-1)
