"""Shapes of the blocks: pieces, areas, inertia, meshes."""

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.envs.tabletop.layout import BLOCK_HEIGHT_M
from nearer.envs.tabletop.meshes import (
    banana_tips,
    block_mesh,
    prism_corners,
    radius_of_gyration_m,
    shape,
)


def area(polygon: Array) -> float:
    x, y = polygon.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def turns(polygon: Array) -> Array:
    edges = np.roll(polygon, -1, axis=0) - polygon
    ahead = np.roll(edges, -1, axis=0)
    return edges[:, 0] * ahead[:, 1] - edges[:, 1] * ahead[:, 0]


@pytest.mark.parametrize("name", ["cube", "pentagon", "star", "moon", "banana"])
def test_shape_pieces_are_convex_and_add_up_to_the_outline(name: str) -> None:
    block = shape(name)
    pieces = [block.points[list(piece)] for piece in block.pieces]
    assert all((turns(piece) > 0).all() for piece in pieces)
    assert sum(map(area, pieces)) == pytest.approx(area(block.outline))


def test_shape_star_and_moon_are_concave_and_cube_is_37_mm() -> None:
    assert (turns(shape("star").outline) < 0).sum() == 5
    assert (turns(shape("moon").outline) < 0).sum() == 7
    assert np.ptp(shape("cube").outline, axis=0) == pytest.approx(0.037)
    assert radius_of_gyration_m("cube") == pytest.approx(0.037 / np.sqrt(6))


@pytest.mark.parametrize("chamfer_m", [0.0, 0.0015])
def test_block_mesh_faces_point_outwards(chamfer_m: float) -> None:
    for name in ("cube", "pentagon", "star", "moon", "banana"):
        mesh = block_mesh(name, chamfer_m)
        a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
        volume = float((a * np.cross(b, c)).sum()) / 6
        assert 1.5e-5 < volume < 1e-4  # the bottom lies at z = 0 and adds nothing


def test_prism_corners_stand_on_the_board() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    corners = prism_corners(square, BLOCK_HEIGHT_M)
    assert corners.shape == (8, 3)
    assert sorted(set(corners[:, 2])) == [0.0, BLOCK_HEIGHT_M]


def test_banana_tips_lie_at_both_ends_of_the_outline() -> None:
    stem, tip = banana_tips()
    assert stem[0] == pytest.approx(tip[0])
    assert stem[1] == pytest.approx(-tip[1])
    # the arc's axis: 75 mm times the sine of 1.05 rad
    assert abs(stem[1]) == pytest.approx(0.075 * np.sin(1.05))
