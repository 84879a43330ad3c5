"""Procedural textures."""

import numpy as np

from nearer.envs.tabletop.textures import wood


def test_wood_is_the_same_image_each_time() -> None:
    image = wood((0.74, 0.55, 0.37))
    assert image.shape == (256, 256, 3)
    assert np.array_equal(image, wood((0.74, 0.55, 0.37)))


def test_wood_has_a_grain_around_its_colour() -> None:
    colour = np.array([0.74, 0.55, 0.37])
    image = wood((0.74, 0.55, 0.37)) / 255
    assert np.abs(image.mean(axis=(0, 1)) / colour - 0.9).max() < 0.1
    assert image[..., 0].std() > 0.03
