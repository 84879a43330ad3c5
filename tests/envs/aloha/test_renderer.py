"""Images: sizes, cameras, light rendering, and contexts that are opened again."""

import numpy as np
import pytest

from nearer.envs.aloha.renderer import FRONT, AlohaRenderer
from nearer.envs.aloha.settings import CAMERAS
from nearer.envs.aloha.simulation import AlohaModel, AlohaSimulation
from nearer.envs.aloha.tasks import AlohaTask, draw_object_poses


@pytest.fixture
def simulation(insertion: AlohaModel) -> AlohaSimulation:
    simulation = AlohaSimulation(insertion)
    simulation.start(draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(0)))
    return simulation


def test_cameras_show_different_images(insertion: AlohaModel, simulation: AlohaSimulation) -> None:
    renderer = AlohaRenderer(insertion.mujoco_model, 48, 64)
    images = [renderer.render(simulation.mujoco_data, camera) for camera in CAMERAS]
    assert {image.shape for image in images} == {(48, 64, 3)}
    # the two wrists see the same as long as both arms stand alike
    assert len({image.tobytes() for image in images}) >= len(CAMERAS) - 1
    renderer.close()


def test_front_shows_peg_and_socket_at_every_start(
    insertion: AlohaModel, simulation: AlohaSimulation
) -> None:
    renderer = AlohaRenderer(insertion.mujoco_model, 96, 128)
    for corner in ((0.1, 0.4), (0.1, 0.6), (0.2, 0.4), (0.2, 0.6)):
        poses = draw_object_poses(AlohaTask.INSERTION, np.random.default_rng(0))
        poses[0, :2], poses[1, :2] = corner, (-corner[0], corner[1])
        simulation.start(poses)
        image = renderer.render(simulation.mujoco_data, FRONT).astype(int)
        red = image[..., 0] - image[..., 1:].max(axis=-1) > 80
        blue = image[..., 2] - image[..., :2].max(axis=-1) > 80
        assert red.sum() > 50, corner
        assert blue.sum() > 100, corner
    renderer.close()


def test_images_have_no_shadows_and_no_multi_sampling(
    insertion: AlohaModel, simulation: AlohaSimulation
) -> None:
    renderer = AlohaRenderer(insertion.mujoco_model, 48, 64)
    renderer.render(simulation.mujoco_data, FRONT)
    quality = insertion.mujoco_model.vis.quality
    assert (quality.shadowsize, quality.offsamples) == (0, 0)
    renderer.close()


def test_convex_hulls_of_the_arms_leave_peg_and_socket_as_they_are(
    insertion: AlohaModel, simulation: AlohaSimulation
) -> None:
    meshes = AlohaRenderer(insertion.mujoco_model, 96, 128)
    hulls = AlohaRenderer(insertion.mujoco_model, 96, 128, convex_hulls=True)
    first, second = (
        renderer.render(simulation.mujoco_data, FRONT).astype(int) for renderer in (meshes, hulls)
    )
    differ = (first != second).any(axis=-1)
    coloured = np.ptp(first, axis=-1) > 80
    assert 0.001 < differ.mean() < 0.1
    assert coloured.sum() > 200
    assert not (differ & coloured).any()
    meshes.close()
    hulls.close()


def test_closed_renderer_opens_again_and_two_sizes_live_together(
    insertion: AlohaModel, simulation: AlohaSimulation
) -> None:
    small = AlohaRenderer(insertion.mujoco_model, 48, 64)
    large = AlohaRenderer(insertion.mujoco_model, 96, 128)
    first = small.render(simulation.mujoco_data, FRONT)
    assert large.render(simulation.mujoco_data, FRONT).shape == (96, 128, 3)
    assert np.array_equal(small.render(simulation.mujoco_data, FRONT), first)
    small.close()
    small.close()
    assert np.array_equal(small.render(simulation.mujoco_data, FRONT), first)
    small.close()
    large.close()
