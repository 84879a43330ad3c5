"""The pinhole camera: projection by hand-worked numbers, and against rendered images."""

import dataclasses

import numpy as np
import pytest

from nearer.envs.tabletop.appearance import REAL, SIM, Appearance
from nearer.envs.tabletop.camera import PinholeCamera
from nearer.envs.tabletop.layout import BLOCK_HEIGHT_M, BLOCKS, WORKSPACE_X_M
from nearer.envs.tabletop.simulation import Simulation
from nearer.envs.tabletop.tasks import draw_layout

OBLIQUE = PinholeCamera(
    position_m=(1.0, 0.0, 1.0),
    target_m=(0.0, 0.0, 0.0),
    roll_rad=0.0,
    field_of_view_rad=np.deg2rad(90),
)


def test_camera_axes_are_orthonormal_and_point_back_to_the_camera() -> None:
    axes = OBLIQUE.axes()
    assert np.allclose(axes @ axes.T, np.eye(3))
    assert axes[2] == pytest.approx([np.sqrt(0.5), 0, np.sqrt(0.5)])


def test_camera_project_target_is_the_middle_of_the_image() -> None:
    assert OBLIQUE.project(np.zeros(3), 60, 80) == pytest.approx([40, 30])


def test_camera_project_point_at_the_edge_of_view_is_at_the_images_edge() -> None:
    # 45 degrees up from the viewing direction: horizontal, towards negative x
    point = np.array([-1.0, 0.0, 1.0])
    assert OBLIQUE.project(point, 60, 80) == pytest.approx([40, 0], abs=1e-9)


def test_camera_vertical_view_narrow_image_keeps_the_horizontal_view() -> None:
    assert OBLIQUE.vertical_view_rad(3 / 4) == pytest.approx(np.deg2rad(90))
    assert OBLIQUE.vertical_view_rad(9 / 16) == pytest.approx(np.deg2rad(90))
    # square: tan(horizontal view / 2) = 4 / 3 tan(45 deg), as in 4:3
    assert np.tan(OBLIQUE.vertical_view_rad(1.0) / 2) == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    ("appearance", "size"), [(SIM, (96, 128)), (REAL, (180, 320)), (SIM, (96, 96))]
)
def test_camera_project_finds_each_block_in_the_image(
    appearance: Appearance, size: tuple[int, int]
) -> None:
    layout = draw_layout(BLOCKS, np.random.default_rng(6))
    layout = dataclasses.replace(layout, effector=np.array([WORKSPACE_X_M[1], 0.3]))
    simulation = Simulation(appearance=appearance)
    simulation.reset(layout)
    image = simulation.camera_image(*size).astype(np.float64)
    for block, (x, y, _) in zip(layout.blocks, layout.poses, strict=True):
        if block.shape == "moon":  # its centre lies at the edge of its hollow
            continue
        point = np.array([x, y, BLOCK_HEIGHT_M])
        column, row = appearance.camera.project(point, *size)
        pixel = image[int(row), int(column)] / 255
        nearest = min(
            appearance.colours,
            key=lambda name: float(np.hypot.reduce(pixel - appearance.colours[name])),
        )
        assert nearest == block.colour
