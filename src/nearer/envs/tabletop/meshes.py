"""Shapes of the blocks: polygons, their convex pieces for collisions, meshes for rendering.

MuJoCo collides convex hulls only, so a star is five kites and a moon eight wedges; their sizes are
LanguageTable's. Metres; every shape has its centre of area at the origin.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64

from nearer.core.arrays import Array
from nearer.envs.tabletop.layout import BLOCK_HEIGHT_M

_CUBE_EDGE_M = 0.037
_PENTAGON_RADIUS_M = 0.0215
_STAR_RADII_M = (0.0245, 0.0105)
_MOON_RADIUS_M = 0.0225
_MOON_BITE_RADIUS_M, _MOON_BITE_OFFSET_M = 0.0185, 0.0125
_MOON_WEDGES = 8
_BANANA_BEND_M, _BANANA_HALF_ANGLE_RAD = 0.075, 1.05
_BANANA_HALF_WIDTH_M = 0.017
_BANANA_WEDGES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A polygon cut into convex pieces.

    Attributes:
        points: the outline's corners, counter-clockwise, then corners inside it.
        num_outline: how many of the points are the outline.
        pieces: each convex piece by the indices of its corners, counter-clockwise.
    """

    points: Float64[Array, "points 2"]
    num_outline: int
    pieces: tuple[tuple[int, ...], ...]

    @property
    def outline(self) -> Float64[Array, "corners 2"]:
        """Return the corners of the outline."""
        return self.points[: self.num_outline]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Triangles with one normal a corner; corners are not shared, so edges stay sharp."""

    vertices: Float64[Array, "vertices 3"]
    normals: Float64[Array, "vertices 3"]
    faces: Int64[Array, "faces 3"]


@cache
def shape(name: str) -> Shape:
    """Return a block's shape by its word: cube, pentagon, star, moon or banana."""
    return {"cube": _cube, "pentagon": _pentagon, "star": _star, "moon": _moon, "banana": _banana}[
        name
    ]()


@cache
def radius_of_gyration_m(name: str) -> float:
    """Return k with yaw inertia = mass k^2, for a block of even density.

    k^2 = integral of r^2 over the polygon / its area, summed over the triangles (0, p, q) of the
    outline: each has area a = p x q / 2 and integral a (p.p + p.q + q.q) / 6.
    """
    p = shape(name).outline
    q = np.roll(p, -1, axis=0)
    areas = _cross(p, q) / 2
    moments = areas * ((p * p).sum(-1) + (p * q).sum(-1) + (q * q).sum(-1)) / 6
    return float(np.sqrt(moments.sum() / areas.sum()))


def prism_corners(polygon: Float64[Array, "corners 2"], height_m: float) -> Float64[Array, "n 3"]:
    """Return the corners of a prism that stands on the board."""
    return np.concatenate([_at(polygon, 0.0), _at(polygon, height_m)])


def block_mesh(name: str, chamfer_m: float = 0.0) -> Mesh:
    """Return the visible surface of a block: its top, its sides, and a chamfer if there is one.

    The bottom is never visible, and left out: a software renderer spends its time on faces.
    """
    if name == "banana":
        return _banana_mesh(16 if chamfer_m else 8)
    block_shape = shape(name)
    inner = block_shape.points.copy()
    inner[: block_shape.num_outline] = _inset(block_shape.outline, chamfer_m)
    tops = [_at(inner[list(piece)], BLOCK_HEIGHT_M) for piece in block_shape.pieces]
    shoulder_m = BLOCK_HEIGHT_M - chamfer_m
    rings = [_at(block_shape.outline, 0.0), _at(block_shape.outline, shoulder_m)]
    if chamfer_m:
        rings.append(_at(inner[: block_shape.num_outline], BLOCK_HEIGHT_M))
    sides = [side for low, high in pairwise(rings) for side in _band(low, high)]
    return _flat_mesh([*tops, *sides])


def _cube() -> Shape:
    half = _CUBE_EDGE_M / 2
    corners = np.array([[half, -half], [half, half], [-half, half], [-half, -half]])
    return Shape(points=corners, num_outline=4, pieces=((0, 1, 2, 3),))


def _pentagon() -> Shape:
    corners = _PENTAGON_RADIUS_M * _on_circle(np.arange(5) * 2 * np.pi / 5)
    return Shape(points=corners, num_outline=5, pieces=((0, 1, 2, 3, 4),))


def _star() -> Shape:
    corners = _on_circle(np.arange(10) * np.pi / 5) * np.tile(_STAR_RADII_M, 5)[:, None]
    kites = tuple((10, (tip - 1) % 10, tip, tip + 1) for tip in range(0, 10, 2))
    return Shape(points=np.concatenate([corners, [[0.0, 0.0]]]), num_outline=10, pieces=kites)


def _moon() -> Shape:
    """Return a disc with a smaller disc bitten out of it."""
    radius, bite, offset = _MOON_RADIUS_M, _MOON_BITE_RADIUS_M, _MOON_BITE_OFFSET_M
    horn_x = (offset**2 + radius**2 - bite**2) / (2 * offset)
    horn_y = np.sqrt(radius**2 - horn_x**2)
    back = np.arctan2(horn_y, horn_x)
    hollow = np.arctan2(horn_y, horn_x - offset)
    fraction = np.linspace(0, 1, _MOON_WEDGES + 1)
    outer = radius * _on_circle(back + fraction * (2 * np.pi - 2 * back))
    inner = bite * _on_circle(hollow + fraction * (2 * np.pi - 2 * hollow)) + [offset, 0]
    return _strip(outer, inner[1:-1])


def _banana() -> Shape:
    """Return an arc that tapers towards its ends."""
    angles = np.linspace(-1, 1, _BANANA_WEDGES + 1) * _BANANA_HALF_ANGLE_RAD
    half_width = _banana_half_width_m(angles)[:, None]
    outer = (_BANANA_BEND_M + half_width) * _on_circle(angles)
    inner = (_BANANA_BEND_M - half_width) * _on_circle(angles)
    corners = np.concatenate([outer, inner[::-1]])
    last = len(corners) - 1
    quads = tuple((i, i + 1, last - i - 1, last - i) for i in range(_BANANA_WEDGES))
    return _centred(Shape(points=corners, num_outline=len(corners), pieces=quads))


def _banana_half_width_m(angles: Float64[Array, "n"]) -> Float64[Array, "n"]:
    return _BANANA_HALF_WIDTH_M * np.cos(angles / _BANANA_HALF_ANGLE_RAD * 1.15) ** 0.8


def _strip(outer: Float64[Array, "n 2"], inner: Float64[Array, "m 2"]) -> Shape:
    """Return the wedges between two arcs that share their first and last corner; m = n - 2."""
    n = len(outer)
    corners = np.concatenate([outer, inner[::-1]])
    total = len(corners)
    wedges = tuple(
        tuple(
            dict.fromkeys((i, i + 1, (total - i - 1) if i < n - 2 else n - 1, (total - i) % total))
        )
        for i in range(n - 1)
    )
    return _centred(Shape(points=corners, num_outline=total, pieces=wedges))


def _centred(uncentred: Shape) -> Shape:
    """Move a shape's centre of area to the origin."""
    p = uncentred.outline
    q = np.roll(p, -1, axis=0)
    areas = _cross(p, q)
    centre = ((p + q) * areas[:, None]).sum(0) / (3 * areas.sum())
    return Shape(
        points=uncentred.points - centre, num_outline=uncentred.num_outline, pieces=uncentred.pieces
    )


def banana_tips() -> Float64[Array, "2 2"]:
    """Return the two ends of a banana: its stem first."""
    outline = shape("banana").outline
    last = len(outline) - 1
    middle = _BANANA_WEDGES
    return np.stack([outline[[0, last]].mean(0), outline[[middle, last - middle]].mean(0)])


def _banana_mesh(sides: int) -> Mesh:
    """Return a bent tube of smooth shading, whose cross-section has `sides` corners."""
    angles = np.linspace(-1, 1, sides + 1) * _BANANA_HALF_ANGLE_RAD
    half_width = _banana_half_width_m(angles)[:, None]
    around = np.arange(sides) * 2 * np.pi / sides + np.pi / sides
    # shapes are centred on their area: move the tube to where the colliders are
    first = (_BANANA_BEND_M + half_width[0]) * _on_circle(angles[:1])[0]
    shift = shape("banana").points[0] - first
    outwards, upwards = np.cos(around), np.sin(around)
    radial = _on_circle(angles)[:, None]
    flat = (_BANANA_BEND_M + half_width * outwards)[..., None] * radial + shift
    height = _BANANA_HALF_WIDTH_M + half_width * upwards
    normals = np.concatenate(
        [outwards[:, None] * radial, np.broadcast_to(upwards[:, None], (*height.shape, 1))], axis=-1
    )
    corner = np.arange(height.size).reshape(height.shape)
    ahead = np.roll(corner, -1, axis=1)
    quads = np.stack([corner[:-1], ahead[:-1], ahead[1:], corner[1:]], axis=-1).reshape(-1, 4)
    return Mesh(
        vertices=np.concatenate([flat, height[..., None]], axis=-1).reshape(-1, 3),
        normals=normals.reshape(-1, 3),
        faces=np.concatenate([quads[:, [0, 2, 1]], quads[:, [0, 3, 2]]]),
    )


def _inset(outline: Float64[Array, "n 2"], distance_m: float) -> Float64[Array, "n 2"]:
    """Move every edge of a polygon inwards; its corners are where the moved edges meet."""
    before = _unit(outline - np.roll(outline, 1, axis=0))
    after = _unit(np.roll(outline, -1, axis=0) - outline)
    # the inward normal of a counter-clockwise edge is its direction turned left
    normals = _left(before) + _left(after)
    # along the bisector a corner moves by distance / cos(half the turn); bounded at sharp corners
    stretch = 2 / (normals * normals).sum(-1, keepdims=True)
    return outline + distance_m * normals * np.minimum(stretch, 2.0)


def _band(low: Float64[Array, "n 3"], high: Float64[Array, "n 3"]) -> list[Float64[Array, "4 3"]]:
    """Return the quads between two rings of corners."""
    ahead = np.roll(np.arange(len(low)), -1)
    return [np.stack([low[i], low[j], high[j], high[i]]) for i, j in enumerate(ahead)]


def _flat_mesh(polygons: list[Float64[Array, "_ 3"]]) -> Mesh:
    """Cut convex polygons into fans of triangles, each polygon with one normal."""
    vertices, normals, faces = list[Array](), list[Array](), list[Array]()
    count = 0
    for polygon in polygons:
        normal = _unit(np.cross(polygon[1] - polygon[0], polygon[2] - polygon[0])[None])[0]
        fan = np.arange(1, len(polygon) - 1)
        faces.append(count + np.stack([np.zeros_like(fan), fan, fan + 1], axis=-1))
        vertices.append(polygon)
        normals.append(np.broadcast_to(normal, polygon.shape))
        count += len(polygon)
    return Mesh(
        vertices=np.concatenate(vertices),
        normals=np.concatenate(normals),
        faces=np.concatenate(faces),
    )


def _at(polygon: Float64[Array, "n 2"], height_m: float) -> Float64[Array, "n 3"]:
    return np.column_stack([polygon, np.full(len(polygon), height_m)])


def _on_circle(angles: Float64[Array, "n"]) -> Float64[Array, "n 2"]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _unit(vectors: Float64[Array, "n d"]) -> Float64[Array, "n d"]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _left(vectors: Float64[Array, "n 2"]) -> Float64[Array, "n 2"]:
    return np.stack([-vectors[:, 1], vectors[:, 0]], axis=-1)


def _cross(p: Float64[Array, "n 2"], q: Float64[Array, "n 2"]) -> Float64[Array, "n"]:
    return p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
