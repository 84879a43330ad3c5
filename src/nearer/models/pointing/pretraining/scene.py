"""Random pretraining scenes: a board, objects on it, a pole, and the camera that views them.

Metres; x to the right, y away from the camera, z up, the board's centre at the origin. Nothing
here is measured from the tabletop that the robot learns on: sizes, colours, lights and cameras
are drawn from wide ranges (domain randomisation).
"""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nearer.core.arrays import Array
from nearer.models.pointing.pretraining.flat_images import FlatImage
from nearer.models.pointing.pretraining.outlines import OUTLINES, Outline
from nearer.models.pointing.vocabulary import COLOURS, HELD_OUT, Name

HEIGHT_PX, WIDTH_PX = 96, 128
"""Size of the images."""

_COMMON_SHAPES = ("circle", "square", "pentagon", "triangle", "star", "moon", "heart", "cross")
_COMMON_COLOURS = ("red", "blue", "green", "yellow", "orange", "purple")
_COMMON_WEIGHT = 2.5
_FLAT_IMAGES_FRACTION = 0.2
"""Of the scenes that may have flat images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneCamera:
    """A pinhole camera.

    Attributes:
        position: metres.
        axes: unit vectors, row by row: the image's right, the image's down, the viewing direction.
        focal: focal length in image widths.
    """

    position: Float64[Array, "3"]
    axes: Float64[Array, "3 3"]
    focal: float

    def project(self, points: Float64[Array, "points 3"]) -> Float64[Array, "points 2"]:
        """Return u, v: 0..1 across and down the image."""
        in_camera = (points - self.position) @ self.axes.T
        # Depth is clipped: points behind the camera have no image.
        flat = self.focal * in_camera[:, :2] / np.maximum(in_camera[:, 2:], 1e-3)
        return 0.5 + flat * np.array([1.0, WIDTH_PX / HEIGHT_PX])

    def ground(self, uv: Float64[Array, "points 2"]) -> Float64[Array, "points 2"]:
        """Return x, y of the ground at these image points; above the horizon, far away."""
        flat = (uv - 0.5) / np.array([1.0, WIDTH_PX / HEIGHT_PX]) / self.focal
        rays = np.concatenate([flat, np.ones((len(flat), 1))], axis=1) @ self.axes
        return self.position[:2] + rays[:, :2] * (self.position[2] / np.maximum(-rays[:, 2:], 1e-3))


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """A prism on the ground.

    Attributes:
        name: its colour and shape.
        centre: x, y of its base.
        outline: corners of its base around the centre, metres.
        height: metres.
        rgb: its colour, 0..1.
    """

    name: Name
    centre: Float64[Array, "2"]
    outline: Outline
    height: float
    rgb: Float64[Array, "3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pole:
    """An upright cylinder, thin and tall.

    Attributes:
        centre: x, y below its axis.
        radius: metres.
        bottom: height of its lower end over the ground, metres.
        top: height of its upper end, metres.
        rgb: its colour, 0..1.
        tip: colour of its lowest part; None: the same.
        head: radius of what holds its top, metres; 0: nothing.
    """

    centre: Float64[Array, "2"]
    radius: float
    bottom: float
    top: float
    rgb: Float64[Array, "3"]
    tip: Float64[Array, "3"] | None
    head: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedFlatImage:
    """A flat image on the ground.

    Attributes:
        centre: x, y of its centre.
        half: half its side, metres.
        yaw: radians.
    """

    flat: FlatImage
    centre: Float64[Array, "2"]
    half: float
    yaw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that an image shows.

    Attributes:
        board: corners of the board, metres: far left, far right, near right, near left.
        objects: prisms on the ground that do not overlap.
        pole: stands for the robot's effector, if there is one.
        flat_images: on the ground.
    """

    camera: SceneCamera
    board: Float64[Array, "4 2"]
    objects: tuple[SceneObject, ...]
    pole: Pole | None
    flat_images: tuple[PlacedFlatImage, ...]


def draw_scene(
    rng: np.random.Generator,
    names: Sequence[Name] | None = None,
    album: Sequence[FlatImage] = (),
) -> Scene:
    """Draw a scene at random.

    Args:
        rng: of every choice.
        names: of the objects; None: drawn at random, without held-out pairs.
        album: flat images of which some may lie in it.
    """
    board = _draw_board(rng)
    camera = _draw_camera(rng, board)
    metres_per_px = _metres_per_px(camera)
    object_names = _draw_names(rng) if names is None else names
    size = 0.5 * metres_per_px * _log_uniform(rng, 5.5, 15.0)
    objects: list[SceneObject] = []
    height = rng.uniform(0.25, 1.7)
    for name in object_names:
        placed = _place(rng, camera, board, objects, name, size * rng.uniform(0.82, 1.18), height)
        if placed is not None:
            objects.append(placed)
    pole = _draw_pole(rng, camera, objects, size) if rng.random() < 0.93 else None
    flat_images: tuple[PlacedFlatImage, ...] = ()
    if rng.random() < _FLAT_IMAGES_FRACTION:
        flat_images = _place_flat_images(rng, camera, objects, album, size)
    return Scene(
        camera=camera, board=board, objects=tuple(objects), pole=pole, flat_images=flat_images
    )


def _draw_board(rng: np.random.Generator) -> Float64[Array, "4 2"]:
    wide, deep = rng.uniform(0.5, 0.95), rng.uniform(0.4, 0.8)
    if rng.random() < 0.1:
        wide, deep = 3.0, 3.0  # the board fills the image
    corners = np.array([[-wide, deep], [wide, deep], [wide, -deep], [-wide, -deep]]) / 2
    yaw = rng.normal(0, 0.06) if rng.random() < 0.85 else rng.uniform(-np.pi / 4, np.pi / 4)
    return corners @ _turn(yaw).T


def _draw_camera(rng: np.random.Generator, board: Float64[Array, "4 2"]) -> SceneCamera:
    elevation = np.deg2rad(rng.uniform(35, 78))
    field = np.deg2rad(rng.uniform(26, 75))
    focal = 0.5 / np.tan(field / 2)
    wide = min(float(np.ptp(board[:, 0])), rng.uniform(0.6, 0.9))
    distance = focal * wide / rng.uniform(0.6, 1.15)
    target = np.append(rng.normal(0, 0.05, 2), 0.0)
    azimuth = rng.normal(0, 0.08)
    back = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0]) * np.cos(elevation)
    position = target + distance * (back + np.array([0.0, 0.0, np.sin(elevation)]))
    viewing = (target - position) / distance
    right = np.cross(viewing, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right)
    down = np.cross(viewing, right)
    roll = _turn(rng.normal(0, 0.02))
    return SceneCamera(
        position=position,
        axes=np.stack([*(roll @ np.stack([right, down])), viewing]),
        focal=float(focal),
    )


def _metres_per_px(camera: SceneCamera) -> float:
    depth = -camera.position @ camera.axes[2]
    return float(depth / camera.focal / WIDTH_PX)


def _draw_names(rng: np.random.Generator) -> list[Name]:
    """Draw names from few colours and few shapes: an object is identified only by both together."""
    colours = _draw_words(rng, list(COLOURS), _COMMON_COLOURS, int(rng.integers(2, 6)))
    shapes = _draw_words(rng, list(OUTLINES), _COMMON_SHAPES, int(rng.integers(3, 7)))
    pairs: list[Name] = [(c, s) for c in colours for s in shapes if (c, s) not in HELD_OUT]
    order = rng.permutation(len(pairs))
    names = [pairs[int(i)] for i in order[: int(rng.integers(4, 15))]]
    if names and rng.random() < 0.2:
        names.append(names[int(rng.integers(len(names)))])
    return names


def _draw_words(
    rng: np.random.Generator, words: list[str], common: Sequence[str], num: int
) -> list[str]:
    weights = np.array([_COMMON_WEIGHT if word in common else 1.0 for word in words])
    indices = rng.choice(len(words), num, replace=False, p=weights / weights.sum())
    return [words[int(i)] for i in indices]


def draw_colour(rng: np.random.Generator, colour: str) -> Float64[Array, "3"]:
    """Draw red, green and blue, 0..1, within the range of a colour's name."""
    low, high = COLOURS[colour]
    hue, saturation, value = rng.uniform(low, high)
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def _place(
    rng: np.random.Generator,
    camera: SceneCamera,
    board: Float64[Array, "4 2"],
    others: Sequence[SceneObject],
    name: Name,
    size: float,
    height: float,
) -> SceneObject | None:
    """Return an object at a free position in the image; None if none was found in 12 trials."""
    outline = size * OUTLINES[name[1]](rng) @ _turn(rng.uniform(-np.pi, np.pi)).T
    radius = _radius(outline)
    taken = np.array([other.centre for other in others]).reshape(-1, 2)
    min_distance = 0.92 * (radius + np.array([_radius(other.outline) for other in others]))
    for _ in range(12):
        if others and rng.random() < 0.25:  # beside another object
            far = radius + _radius(others[-1].outline) + rng.uniform(0, 0.02)
            angle = rng.uniform(-np.pi, np.pi)
            centre = others[-1].centre + far * np.array([np.cos(angle), np.sin(angle)])
        else:
            x, y = rng.uniform(0.04, 0.96, 2)
            centre = board[0] + x * (board[1] - board[0]) + y * (board[3] - board[0])
        if (((taken - centre) ** 2).sum(axis=1) < min_distance**2).any():
            continue
        u, v = camera.project(np.append(centre, 0.0)[None])[0]
        if 0.03 < u < 0.97 and 0.03 < v < 0.97:
            return SceneObject(
                name=name,
                centre=centre,
                outline=outline,
                height=size * height * rng.uniform(0.85, 1.15),
                rgb=draw_colour(rng, name[0]),
            )
    return None


def _place_flat_images(
    rng: np.random.Generator,
    camera: SceneCamera,
    objects: Sequence[SceneObject],
    album: Sequence[FlatImage],
    size: float,
) -> tuple[PlacedFlatImage, ...]:
    """Return up to two flat images at positions that are free."""
    placed: list[PlacedFlatImage] = []
    for _ in range(8 if album else 0):
        centre = camera.ground(rng.uniform(0.1, 0.9, (1, 2)))[0]
        half = size * rng.uniform(1.0, 2.2)
        overlaps = [
            _radius(other.outline) + 1.2 * half - np.hypot(*(other.centre - centre))
            for other in objects
        ]
        overlaps += [
            1.5 * (other.half + half) - np.hypot(*(other.centre - centre)) for other in placed
        ]
        if max(overlaps, default=-1.0) < 0 and len(placed) < 2:
            flat = album[int(rng.integers(len(album)))]
            yaw = rng.normal(0, 0.3)
            placed.append(PlacedFlatImage(flat=flat, centre=centre, half=half, yaw=yaw))
    return tuple(placed)


def _draw_pole(
    rng: np.random.Generator, camera: SceneCamera, objects: Sequence[SceneObject], size: float
) -> Pole:
    radius = size * rng.uniform(0.3, 1.0)
    centre = camera.ground(rng.uniform(0.06, 0.94, (1, 2)))[0]
    if objects and rng.random() < 0.75:  # in contact, or nearly
        pushed = objects[int(rng.integers(len(objects)))]
        angle = rng.uniform(-np.pi, np.pi)
        far = radius + _radius(pushed.outline) * rng.uniform(0.75, 1.0) + rng.exponential(0.01)
        centre = pushed.centre + far * np.array([np.cos(angle), np.sin(angle)])
    bottom = rng.uniform(0, 0.012) if rng.random() < 0.6 else 0.0
    colour = "any" if rng.random() < 0.35 else str(rng.choice(["black", "black", "grey"]))
    if colour == "any":
        colour = str(rng.choice(list(COLOURS)))
    tip = draw_colour(rng, str(rng.choice(list(COLOURS)))) if rng.random() < 0.1 else None
    return Pole(
        centre=centre,
        radius=float(radius),
        bottom=bottom,
        top=bottom + radius * _log_uniform(rng, 3.5, 50.0),
        rgb=draw_colour(rng, colour) * rng.uniform(0.7, 1.3),
        tip=tip,
        head=float(radius * rng.uniform(1.5, 5)) if rng.random() < 0.25 else 0.0,
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _radius(outline: Outline) -> float:
    return float(np.sqrt((outline**2).sum(axis=1).max()))


def _turn(angle: float) -> Float64[Array, "2 2"]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])
