"""Shapes of the pretraining's objects, as polygons of about unit radius.

Every outline is drawn with random proportions, so that the encoder learns the shape and not one
instance of it.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float64

from nearer.core.arrays import Array

Outline = Float64[Array, "corners 2"]


def _polar(radii: Array, turn: float = 0.0) -> Outline:
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False) + turn
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _regular(corners: int) -> Outline:
    return _polar(np.ones(corners))


def _arc(centre: tuple[float, float], radius: float, start: float, stop: float, n: int) -> Outline:
    angles = np.linspace(start, stop, n)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return radius * circle + np.array(centre)


def _star(rng: np.random.Generator) -> Outline:
    corners = 5 if rng.random() < 0.85 else int(rng.choice([4, 6]))
    radii = np.ones(2 * corners)
    radii[1::2] = rng.uniform(0.36, 0.56)
    return 1.12 * _polar(radii)


def _moon(rng: np.random.Generator) -> Outline:
    """A disc less a smaller one beside it, whose centre is `offset` away."""
    inner, offset = rng.uniform(0.68, 0.9), rng.uniform(0.42, 0.62)
    # Where the two circles cross.
    x = (1 - inner**2 + offset**2) / (2 * offset)
    y = np.sqrt(max(1 - x**2, 0.01))
    outside = _arc((0, 0), 1.0, np.arctan2(y, x), 2 * np.pi - np.arctan2(y, x), 14)
    meeting = np.arctan2(y, x - offset)
    inside = _arc((offset, 0), inner, 2 * np.pi - meeting, meeting, 10)
    return np.concatenate([outside, inside[1:-1]]) + np.array([0.12, 0.0])


def _heart(rng: np.random.Generator) -> Outline:
    angles = np.linspace(0, 2 * np.pi, 22, endpoint=False)
    x = 16 * np.sin(angles) ** 3
    y = 13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles)
    return np.stack([x, (y + 2.5) * rng.uniform(0.9, 1.1)], axis=1) / 15


def _cross(rng: np.random.Generator) -> Outline:
    arm = rng.uniform(0.22, 0.38)
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]], np.float64)
    turn = np.array([[0, 1], [-1, 0]], np.float64)
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _ring(rng: np.random.Generator) -> Outline:
    """A ring cut at one place, so that one polygon goes round it."""
    inner = rng.uniform(0.45, 0.65)
    return np.concatenate(
        [_arc((0, 0), 1.0, 0.0, 2 * np.pi, 19), _arc((0, 0), inner, 2 * np.pi, 0.0, 15)]
    )


def _arrow(rng: np.random.Generator) -> Outline:
    shaft, head = rng.uniform(0.2, 0.32), rng.uniform(-0.1, 0.25)
    tip = [[-1, -shaft], [head, -shaft], [head, -0.8], [1, 0], [head, 0.8], [head, shaft]]
    return np.array([*tip, [-1, shaft]], np.float64)


def _half_disc(rng: np.random.Generator) -> Outline:
    return _arc((0, -0.42), rng.uniform(0.98, 1.1), 0.0, np.pi, 13)


def _tee(rng: np.random.Generator) -> Outline:
    arm = rng.uniform(0.2, 0.34)
    top = 0.8 - 2 * arm
    corners = [[-arm, -0.9], [arm, -0.9], [arm, top], [0.9, top], [0.9, 0.8], [-0.9, 0.8]]
    return np.array([*corners, [-0.9, top], [-arm, top]], np.float64)


def _diamond(rng: np.random.Generator) -> Outline:
    wide = rng.uniform(0.5, 0.68)
    return np.array([[wide, 0], [0, 1.05], [-wide, 0], [0, -1.05]], np.float64)


def _banana(rng: np.random.Generator) -> Outline:
    bend, thick = rng.uniform(0.9, 1.3), rng.uniform(0.28, 0.4)
    span = rng.uniform(0.9, 1.2)
    outside = _arc((0, 0), bend + thick / 2, -span, span, 9)
    inside = _arc((0.12, 0), bend - thick / 2, span * 0.92, -span * 0.92, 9)
    return np.concatenate([outside, inside]) - np.array([bend * 0.85, 0.0])


OUTLINES: Mapping[str, Callable[[np.random.Generator], Outline]] = {
    "circle": lambda rng: _regular(18),
    "square": lambda rng: 1.15 * _polar(np.ones(4), np.pi / 4),
    "pentagon": lambda rng: 1.05 * _regular(5),
    "hexagon": lambda rng: 1.03 * _regular(6),
    "triangle": lambda rng: 1.15 * _regular(3),
    "star": _star,
    "moon": _moon,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "arrow": _arrow,
    "half disc": _half_disc,
    "tee": _tee,
    "diamond": _diamond,
    "banana": _banana,
}
"""A new outline of each shape, counter-clockwise; the heart's is clockwise, as the shipped weights
were pretrained, so that its far faces are painted in place of its near ones."""
