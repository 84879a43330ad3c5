"""Film strips: evenly in time, first and last frame, whatever the length."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nearer.runs.clips import FRAMES, SIDE, FilmStrip


def greys(strip: FilmStrip, height: int, width: int) -> list[int]:
    """Return the grey of each frame of a strip."""
    image = np.asarray(Image.open(BytesIO(strip.jpeg())).convert("L")).astype(int)
    assert image.shape == (SIDE * height, SIDE * width)
    frames = image.reshape(SIDE, height, SIDE, width).mean(axis=(1, 3))
    return frames.round().astype(int).reshape(-1).tolist()


@pytest.mark.parametrize("length", [1, 2, 64, 65, 128, 129, 200, 256, 1000])
def test_strip_shows_an_episode_from_its_first_to_its_last_frame(length: int) -> None:
    strip = FilmStrip()
    for step in range(length):
        strip.add(np.full((16, 16, 3), round(255 * step / max(1, length - 1)), np.uint8))
    assert strip.frames == length
    shown = greys(strip, 16, 16)
    assert len(shown) == FRAMES
    assert shown == sorted(shown)
    assert shown[0] <= 2
    assert shown[-1] >= (253 if length > 1 else 0)
    expected = np.linspace(0, 255 if length > 1 else 0, FRAMES)
    assert np.abs(np.array(shown) - expected).max() <= (128 if length == 2 else 7)


def test_wide_images_are_made_small() -> None:
    strip = FilmStrip()
    strip.add(np.full((480, 640, 3), 80, np.uint8))
    assert set(greys(strip, 120, 160)) == {80}
