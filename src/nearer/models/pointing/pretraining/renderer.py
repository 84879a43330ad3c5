"""A small software renderer for the pretraining's scenes: polygons, painted from far to near.

It shares no code, mesh, light or camera with the tabletop's renderer.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image, ImageDraw, ImageFilter

from nearer.core.arrays import Array
from nearer.models.pointing.pretraining.camera_effects import developed
from nearer.models.pointing.pretraining.scene import (
    HEIGHT_PX,
    WIDTH_PX,
    Camera,
    LaidCard,
    Pole,
    Scene,
    Thing,
)
from nearer.models.pointing.pretraining.surfaces import draw_surface

_FINE = 2
"""Everything is drawn at this multiple of the picture's size."""
_POLE_SIDES = 14

Pixels = Float64[Array, "points 2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture and what it shows.

    Attributes:
        rgb: the picture.
        visible: share of each thing that can be seen, in the scene's order.
        pole_visible: that of the pole; 0 without one.
        cards_visible: that of each card.
    """

    rgb: UInt8[Array, "h w 3"]
    visible: Float32[Array, "things"]
    pole_visible: float
    cards_visible: Float32[Array, "cards"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Light:
    """A far lamp and the light from everywhere.

    Attributes:
        towards: unit vector to the lamp.
        ambient: share of a colour seen without the lamp.
        diffuse: what a face adds that looks at the lamp.
        shadow: how dark a shadow is, 0: none.
    """

    towards: Float64[Array, "3"]
    ambient: float
    diffuse: float
    shadow: float
    shadow_blur: float


class _Canvas:
    """The picture being painted and, beside it, the number of the thing in every pixel."""

    def __init__(self, background: Image.Image, camera: Camera) -> None:
        self.image = background
        self.numbers = Image.new("L", (WIDTH_PX, HEIGHT_PX), 0)
        self._paint = ImageDraw.Draw(self.image)
        self._count = ImageDraw.Draw(self.numbers)
        self.camera = camera

    def polygon(self, corners: Pixels, rgb: Float64[Array, "3"], number: int) -> None:
        colour = tuple(int(v) for v in np.clip(255 * rgb, 0, 255))
        # Pillow takes whole numbers for the middles of pixels.
        self._paint.polygon((_FINE * corners - 0.5).ravel().tolist(), fill=colour)
        self._count.polygon((corners - 0.5).ravel().tolist(), fill=number)

    def card(self, laid: LaidCard, number: int) -> None:
        """Lay a flat picture on the ground; so small a thing needs no perspective of its own."""
        along = laid.half * np.array([np.cos(laid.yaw), np.sin(laid.yaw)])
        down = np.array([along[1], -along[0]])
        corners = laid.centre + np.stack([-along - down, along - down, -along + down])
        origin, right, below = _FINE * on_picture(self.camera, corners, 0.0)
        side = len(laid.card.rgba)
        to_canvas = np.eye(3)
        to_canvas[:2] = np.stack([(right - origin) / side, (below - origin) / side, origin], axis=1)
        back = np.linalg.inv(to_canvas)[:2].ravel().tolist()
        picture = Image.fromarray(laid.card.rgba)
        bilinear = Image.Resampling.BILINEAR
        flat = picture.transform(self.image.size, Image.Transform.AFFINE, back, bilinear)
        self.image.paste(flat, mask=flat.getchannel("A"))
        opaque = flat.getchannel("A").reduce(_FINE).point([0] * 128 + [255] * 128)
        self.numbers.paste(number, mask=opaque)


def render(scene: Scene, rng: np.random.Generator) -> Picture:
    """Return the scene's picture under a light, on a ground and through a lens drawn at random."""
    light = _draw_light(rng)
    background = draw_surface(scene.camera, scene.board, rng)
    if light.shadow > 0:
        background = _shadowed(background, scene, light)
    canvas = _Canvas(background, scene.camera)
    last = len(scene.things) + 1
    drawn = np.zeros(last + 1 + len(scene.cards))
    for number, card in enumerate(scene.cards, start=last + 1):
        canvas.card(card, number)
        drawn[number] = np.count_nonzero(np.asarray(canvas.numbers) == number)
    for number in _far_to_near(scene):
        if number <= len(scene.things):
            _draw_thing(canvas, scene.things[number - 1], light, number)
        elif scene.pole is not None:
            _draw_pole(canvas, scene.pole, light, number, rng)
        drawn[number] = np.count_nonzero(np.asarray(canvas.numbers) == number)
    left = np.bincount(np.asarray(canvas.numbers).ravel(), minlength=len(drawn))
    visible = (left / np.maximum(drawn, 1)).astype(np.float32)
    rgb = developed(canvas.image, rng)
    return Picture(
        rgb=rgb,
        visible=visible[1:last],
        pole_visible=float(visible[last]),
        cards_visible=visible[last + 1 :],
    )


def _draw_light(rng: np.random.Generator) -> _Light:
    angle, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.35, 1.0)
    side = np.sqrt(1 - height**2)
    ambient = rng.uniform(0.3, 0.85)
    return _Light(
        towards=np.array([side * np.cos(angle), side * np.sin(angle), height]),
        ambient=ambient,
        diffuse=rng.uniform(0.85, 1.25) - ambient,
        shadow=rng.uniform(0.1, 0.6) if rng.random() < 0.55 else 0.0,
        shadow_blur=rng.uniform(0.0, 3.0),
    )


def _far_to_near(scene: Scene) -> list[int]:
    """Return numbers, from 1, of the things and last the pole, those behind first."""
    centres = [thing.centre for thing in scene.things]
    if scene.pole is not None:
        centres.append(scene.pole.centre)
    if not centres:
        return []
    depth = (np.stack(centres) - scene.camera.position[:2]) @ scene.camera.axes[2, :2]
    return [int(i) + 1 for i in np.argsort(-depth)]


def _shadowed(background: Image.Image, scene: Scene, light: _Light) -> Image.Image:
    mask = Image.new("L", background.size, 0)
    draw = ImageDraw.Draw(mask)
    slope = -light.towards[:2] / light.towards[2]
    casts = [(t.centre + t.outline, 0.0, t.height) for t in scene.things]
    if scene.pole is not None:
        around = scene.pole.centre + scene.pole.radius * _circle()
        casts.append((around, scene.pole.bottom, scene.pole.top))
    for base, low, high in casts:
        bottom = _FINE * on_picture(scene.camera, base + slope * low, 0.0)
        top = _FINE * on_picture(scene.camera, base + slope * high, 0.0)
        for quad in _quads(bottom, top):
            draw.polygon(quad.ravel().tolist(), fill=255)
        draw.polygon(top.ravel().tolist(), fill=255)
    if light.shadow_blur > 0.5:
        mask = mask.filter(ImageFilter.GaussianBlur(light.shadow_blur))
    dark = background.point([int(v * (1 - light.shadow)) for v in range(256)] * 3)
    return Image.composite(dark, background, mask)


def on_picture(camera: Camera, ground: Float64[Array, "points 2"], height: float) -> Pixels:
    """Return where points at one height are seen, in pixels, far outside ones nearer by."""
    points = np.concatenate([ground, np.full((len(ground), 1), height)], axis=1)
    return np.clip(camera.project(points), -3, 4) * (WIDTH_PX, HEIGHT_PX)


def _quads(bottom: Pixels, top: Pixels) -> Float64[Array, "sides 4 2"]:
    """Return the upright face over every side of an outline."""
    return np.stack([bottom, np.roll(bottom, -1, axis=0), np.roll(top, -1, axis=0), top], axis=1)


def _draw_thing(canvas: _Canvas, thing: Thing, light: _Light, number: int) -> None:
    base = thing.centre + thing.outline
    _draw_sides(canvas, base, (0.0, thing.height), thing.rgb, light, number)
    top = on_picture(canvas.camera, base, thing.height)
    canvas.polygon(top, thing.rgb * (light.ambient + light.diffuse * light.towards[2]), number)


def _draw_sides(
    canvas: _Canvas,
    base: Float64[Array, "corners 2"],
    span: tuple[float, float],
    rgb: Float64[Array, "3"],
    light: _Light,
    number: int,
) -> None:
    """Paint the upright faces that look at the camera, far ones first."""
    camera = canvas.camera.position[:2]
    nexts = np.roll(base, -1, axis=0)
    along = nexts - base
    normals = np.stack([along[:, 1], -along[:, 0]], axis=1)
    normals /= np.maximum(np.sqrt((normals**2).sum(axis=1, keepdims=True)), 1e-9)
    gaps = camera - (base + nexts) / 2
    facing = (gaps * normals).sum(axis=1) > 0
    lit = light.ambient + light.diffuse * np.maximum(normals @ light.towards[:2], 0)
    quads = _quads(*(on_picture(canvas.camera, base, height) for height in span))
    for i in np.argsort(-(gaps**2).sum(axis=1)):
        if facing[i]:
            canvas.polygon(quads[i], rgb * lit[i], number)


def _draw_pole(
    canvas: _Canvas, pole: Pole, light: _Light, number: int, rng: np.random.Generator
) -> None:
    base = pole.centre + pole.radius * _circle()
    _draw_sides(canvas, base, (pole.bottom, pole.top), pole.rgb, light, number)
    if pole.tip is not None:
        end = pole.bottom + pole.radius * rng.uniform(0.5, 3)
        _draw_sides(canvas, base, (pole.bottom, end), pole.tip, light, number)
    rim, top = base, pole.top
    if pole.head > 0:
        rim, top = pole.centre + pole.head * _circle(), pole.top + pole.head
        _draw_sides(canvas, rim, (pole.top, top), pole.rgb, light, number)
    lit = light.ambient + light.diffuse * light.towards[2]
    canvas.polygon(on_picture(canvas.camera, rim, top), pole.rgb * lit, number)


def _circle() -> Float64[Array, "corners 2"]:
    angles = np.linspace(0, 2 * np.pi, _POLE_SIDES, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
