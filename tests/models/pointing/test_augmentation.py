"""Augmentation: what is drawn on a frame stays under its label."""

import numpy as np
import pytest
import torch

from nearer.core.arrays import Array
from nearer.models.pointing.augmentation import Augmentation

HEIGHT, WIDTH = 96, 128


def change(**changed: object) -> Augmentation:
    """Return an augmentation of one frame that changes only this."""
    nothing: dict[str, Array] = {
        "turns": np.zeros(1, np.float32),
        "scales": np.ones(1, np.float32),
        "shifts": np.zeros((1, 2), np.float32),
        "gains": np.ones((1, 3), np.float32),
        "offsets": np.zeros(1, np.float32),
    }
    return Augmentation(**(nothing | {k: np.float32([v]) for k, v in changed.items()}))


def frame_with_a_spot(row: int, column: int) -> torch.Tensor:
    image = torch.full((1, HEIGHT, WIDTH, 3), 40, dtype=torch.uint8)
    image[0, row - 1 : row + 2, column - 1 : column + 2] = 220
    return image


def label(row: int, column: int) -> Array:
    return np.float32([[[(column + 0.5) / WIDTH, (row + 0.5) / HEIGHT, 0.7]]])


@pytest.mark.parametrize("seed", range(8))
def test_a_label_moves_with_its_object(seed: int) -> None:
    augmentation = Augmentation.draw(1, np.random.default_rng(seed))
    image = augmentation.images(frame_with_a_spot(30, 80))[0].float().sum(dim=2)
    bright = image - image.median()
    bright = bright.clamp(min=0)
    rows = torch.arange(HEIGHT)[:, None].float()
    columns = torch.arange(WIDTH)[None].float()
    v = float((bright * rows).sum() / bright.sum() + 0.5) / HEIGHT
    u = float((bright * columns).sum() / bright.sum() + 0.5) / WIDTH
    target = augmentation.targets(label(30, 80), WIDTH / HEIGHT)
    assert target.shape == (1, 1, 3)
    assert target[0, 0].tolist() == pytest.approx([u, v, 0.7], abs=0.004)


def test_an_augmentation_of_nothing_changes_nothing() -> None:
    images = torch.randint(0, 256, (1, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    assert torch.equal(change().images(images), images)
    np.testing.assert_allclose(change().targets(label(10, 20), 4 / 3), label(10, 20), atol=1e-6)


def test_a_turn_by_a_right_angle_moves_what_is_above_the_centre_to_its_side() -> None:
    turned = change(turns=np.pi / 2).targets(np.float32([[[0.5, 0.25, 1.0]]]), 4 / 3)
    # A quarter of the height above the centre: as far to one side of it, in heights.
    assert abs(turned[0, 0, 0] - 0.5) == pytest.approx(0.25 * 3 / 4, abs=1e-6)
    assert turned[0, 0, 1] == pytest.approx(0.5, abs=1e-6)


def test_a_label_that_leaves_the_frame_has_no_weight() -> None:
    shifted = change(shifts=[0.5, 0.0]).targets(np.stack([label(50, 20), label(50, 100)], 1), 4 / 3)
    assert shifted.reshape(2, 3)[:, 2].tolist() == pytest.approx([0.0, 0.7])


def test_colours_are_scaled_and_offset() -> None:
    images = torch.full((1, HEIGHT, WIDTH, 3), 100, dtype=torch.uint8)
    changed = change(gains=[1.0, 1.1, 2.6], offsets=5.0).images(images)
    assert changed[0, 3, 4].tolist() == [105, 115, 255]


def test_a_part_of_a_minibatch_is_changed_as_in_the_whole() -> None:
    whole = Augmentation.draw(4, np.random.default_rng(0))
    images = torch.randint(0, 256, (4, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    part = whole.part(slice(2, 4)).images(images[2:])
    assert torch.equal(part, whole.images(images)[2:])
