"""The ground of a pretraining scene: a board and a floor of random procedural materials."""

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageDraw

from nearer.core.arrays import Array
from nearer.models.pointing.pretraining.scene import HEIGHT_PX, WIDTH_PX, SceneCamera

_SUPERSAMPLING = 2

Uv = Float64[Array, "points 2"]
Texture = Float64[Array, "points"]


def draw_surface(
    camera: SceneCamera, board: Float64[Array, "4 2"], rng: np.random.Generator
) -> Image.Image:
    """Return the empty ground in the camera's view, at twice the final size."""
    across, down = np.meshgrid(
        (np.arange(WIDTH_PX) + 0.5) / WIDTH_PX, (np.arange(HEIGHT_PX) + 0.5) / HEIGHT_PX
    )
    uv = np.stack([across.ravel(), down.ravel()], axis=1)
    ground = camera.ground(uv)
    floor = _as_image(_material(ground, uv, rng))
    top = _as_image(_material(ground, uv, rng))
    mask = Image.new("L", floor.size, 0)
    draw = ImageDraw.Draw(mask)
    corners = np.concatenate([board, np.zeros((4, 1))], axis=1)
    flat = (
        np.clip(camera.project(corners), -3, 4) * (WIDTH_PX, HEIGHT_PX) * _SUPERSAMPLING
    ).ravel()
    draw.polygon(flat.tolist(), fill=255)
    floor.paste(top, mask=mask)
    if rng.random() < 0.4:
        rim = tuple(int(255 * v) for v in _colour(rng))
        loop = [*flat.tolist(), *flat[:2].tolist()]
        ImageDraw.Draw(floor).line(loop, fill=rim, width=int(rng.integers(1, 10)), joint="curve")
    return floor


def _as_image(rgb: Float64[Array, "pixels 3"]) -> Image.Image:
    pixels = np.clip(255 * rgb, 0, 255).astype(np.uint8).reshape(HEIGHT_PX, WIDTH_PX, 3)
    size = (_SUPERSAMPLING * WIDTH_PX, _SUPERSAMPLING * HEIGHT_PX)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def _colour(rng: np.random.Generator) -> Float64[Array, "3"]:
    kind = rng.random()
    if kind < 0.55:  # nearly grey: paper, plastic, cloth
        return np.clip(rng.uniform(0.05, 1.0) + rng.normal(0, 0.04, 3), 0, 1)
    if kind < 0.8:  # wood, sand, card
        return rng.uniform(0.35, 1.0) * np.array(
            [1.0, rng.uniform(0.7, 0.9), rng.uniform(0.4, 0.75)]
        )
    return rng.uniform(0, 1, 3)


def _material(ground: Uv, uv: Uv, rng: np.random.Generator) -> Float64[Array, "pixels 3"]:
    """Return two colours mixed by a texture on the ground, with an illumination gradient."""
    first = _colour(rng)
    second = first * rng.uniform(0.75, 1.2) if rng.random() < 0.7 else _colour(rng)
    kind = rng.random()
    if kind < 0.4:
        mix = np.zeros(len(ground))
    elif kind < 0.6:
        mix = _clouds(ground, rng)
    elif kind < 0.8:
        mix = _wood(ground, rng)
    elif kind < 0.9:
        mix = _checker(ground, rng)
    else:
        mix = _stripes(ground, rng)
    rgb = first + (second - first) * mix[:, None]
    if rng.random() < 0.5:
        slope = rng.normal(0, 0.18, 2)
        rgb = rgb * (1 + (uv - 0.5) @ slope)[:, None]
    return rgb


def _rotated(ground: Uv, rng: np.random.Generator) -> Uv:
    angle = rng.choice([0.0, np.pi / 2]) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return ground @ np.array([[cos, -sin], [sin, cos]])


def _clouds(ground: Uv, rng: np.random.Generator) -> Texture:
    """Return smooth noise: a sum of sine waves of several wavelengths, metres."""
    mix = np.full(len(ground), 0.5)
    for scale in (0.3, 0.12, 0.05, 0.02):
        waves = rng.normal(0, 2 * np.pi / scale, (3, 2))
        phases = rng.uniform(0, 2 * np.pi, 3)
        mix += 0.12 * np.sin(ground @ waves.T + phases).sum(axis=1)
    return np.clip(mix, 0, 1)


def _wood(ground: Uv, rng: np.random.Generator) -> Texture:
    """Return long grain, with or without planks."""
    rotated = _rotated(ground, rng)
    bend = 0.01 * np.sin(rotated[:, 0] * rng.uniform(4, 15) + rng.uniform(0, 6))
    across = rotated[:, 1] + bend
    grain = np.zeros(len(ground))
    for wavelength in rng.uniform(0.008, 0.08, 4):
        grain += np.sin(across * 2 * np.pi / wavelength + rng.uniform(0, 6))
    mix = 0.5 + 0.16 * grain
    if rng.random() < 0.4:
        plank = np.floor(across / rng.uniform(0.05, 0.2))
        mix = mix + 0.35 * np.sin(plank * rng.uniform(1, 9))
    return np.clip(mix, 0, 1)


def _checker(ground: Uv, rng: np.random.Generator) -> Texture:
    cells = np.floor(_rotated(ground, rng) / rng.uniform(0.03, 0.2)).sum(axis=1)
    return np.mod(cells, 2)


def _stripes(ground: Uv, rng: np.random.Generator) -> Texture:
    """Return thin parallel lines, or a grid."""
    rotated = np.mod(_rotated(ground, rng) / rng.uniform(0.04, 0.25), 1.0) < rng.uniform(0.03, 0.3)
    return (rotated[:, 0] | (rotated[:, 1] & bool(rng.random() < 0.6))).astype(np.float64)
