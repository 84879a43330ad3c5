"""Procedural textures: the wood grain of the real appearance's board."""

import numpy as np
from jaxtyping import Float64, UInt8

from nearer.core.arrays import Array
from nearer.envs.tabletop.appearance import Colour

_ROWS, _COLUMNS = 256, 256
_NUM_PLANKS = 5


def wood(colour: Colour) -> UInt8[Array, "h w c"]:
    """Return an image of planks, each with its own shade and stretched growth rings."""
    rng = np.random.default_rng(7)  # one fixed board
    across, along = np.mgrid[0 : 1 : _ROWS * 1j, 0 : 1 : _COLUMNS * 1j]
    plank = np.minimum((across * _NUM_PLANKS).astype(int), _NUM_PLANKS - 1)
    shade = rng.uniform(-0.07, 0.07, _NUM_PLANKS)[plank]
    heart = rng.uniform(-0.5, 1.5, _NUM_PLANKS)[plank]
    bend = rng.uniform(-0.4, 0.4, _NUM_PLANKS)[plank]
    wobble = _smooth_noise(rng, (12, 5))
    rings = (across * _NUM_PLANKS - plank - heart) + bend * (along - 0.5) ** 2 + 0.25 * wobble
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * 5 * rings)
    fibres = _smooth_noise(rng, (_ROWS, 6))
    value = 1 + shade - 0.16 * grain**2 + 0.06 * fibres
    value[(across * _NUM_PLANKS) % 1 < 1.5 * _NUM_PLANKS / _ROWS] *= 0.7
    return np.clip(value[..., None] * colour * 255, 0, 255).astype(np.uint8)


def _smooth_noise(rng: np.random.Generator, knots: tuple[int, int]) -> Float64[Array, "h w"]:
    """Return noise in [-1, 1], drawn at few knots and interpolated linearly between them."""
    noise = rng.uniform(-1, 1, knots)
    rows, columns = np.linspace(0, knots[0] - 1, _ROWS), np.linspace(0, knots[1] - 1, _COLUMNS)
    down, right = np.arange(knots[0]), np.arange(knots[1])
    tall: list[Array] = [np.interp(rows, down, column) for column in noise.T]
    full: list[Array] = [np.interp(columns, right, row) for row in np.stack(tall, axis=-1)]
    return np.stack(full)
