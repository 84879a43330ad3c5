"""A small software renderer of pretraining scenes: polygons, painted from far to near.

It shares no code, mesh, light or camera with the tabletop's renderer, so that the encoder is not
pretrained on the environment it is evaluated in.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image, ImageDraw, ImageFilter

from nearer.core.arrays import Array
from nearer.models.pointing.pretraining.camera_effects import with_camera_effects
from nearer.models.pointing.pretraining.scene import (
    HEIGHT_PX,
    WIDTH_PX,
    PlacedFlatImage,
    Pole,
    Scene,
    SceneCamera,
    SceneObject,
)
from nearer.models.pointing.pretraining.surfaces import draw_surface

_SUPERSAMPLING = 2
"""Everything is drawn at this multiple of the image's size."""
_POLE_SIDES = 14

Pixels = Float64[Array, "points 2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedImage:
    """An image and what is visible in it.

    Attributes:
        rgb: the image.
        visible: fraction of each object that is not occluded, in the scene's order.
        pole_visible: the same for the pole; 0 without one.
        flat_images_visible: the same for each flat image.
    """

    rgb: UInt8[Array, "h w 3"]
    visible: Float32[Array, "objects"]
    pole_visible: float
    flat_images_visible: Float32[Array, "flat_images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Light:
    """A directional lamp and ambient light.

    Attributes:
        towards: unit vector to the lamp.
        ambient: fraction of a colour that is reflected without the lamp.
        diffuse: what a face towards the lamp adds.
        shadow: how dark a shadow is, 0..1; 0: none.
        shadow_blur: radius, pixels of the canvas.
    """

    towards: Float64[Array, "3"]
    ambient: float
    diffuse: float
    shadow: float
    shadow_blur: float


class _PaintedScene:
    """The image being painted, and beside it the object number in every pixel."""

    def __init__(self, background: Image.Image, camera: SceneCamera) -> None:
        self.image = background
        self.numbers = Image.new("L", (WIDTH_PX, HEIGHT_PX), 0)
        self._paint = ImageDraw.Draw(self.image)
        self._paint_number = ImageDraw.Draw(self.numbers)
        self.camera = camera

    def polygon(self, corners: Pixels, rgb: Float64[Array, "3"], number: int) -> None:
        colour = tuple(int(v) for v in np.clip(255 * rgb, 0, 255))
        # Pillow takes integers for the centres of pixels.
        self._paint.polygon((_SUPERSAMPLING * corners - 0.5).ravel().tolist(), fill=colour)
        self._paint_number.polygon((corners - 0.5).ravel().tolist(), fill=number)

    def flat_image(self, placed: PlacedFlatImage, number: int) -> None:
        """Draw a flat image by an affine map; perspective is negligible at its size."""
        along = placed.half * np.array([np.cos(placed.yaw), np.sin(placed.yaw)])
        down = np.array([along[1], -along[0]])
        corners = placed.centre + np.stack([-along - down, along - down, -along + down])
        origin, right, below = _SUPERSAMPLING * on_image(self.camera, corners, 0.0)
        side = len(placed.flat.rgba)
        to_canvas = np.eye(3)
        to_canvas[:2] = np.stack([(right - origin) / side, (below - origin) / side, origin], axis=1)
        back = np.linalg.inv(to_canvas)[:2].ravel().tolist()
        source = Image.fromarray(placed.flat.rgba)
        bilinear = Image.Resampling.BILINEAR
        flat = source.transform(self.image.size, Image.Transform.AFFINE, back, bilinear)
        self.image.paste(flat, mask=flat.getchannel("A"))
        opaque = flat.getchannel("A").reduce(_SUPERSAMPLING).point([0] * 128 + [255] * 128)
        self.numbers.paste(number, mask=opaque)


def render(scene: Scene, rng: np.random.Generator) -> RenderedImage:
    """Return the scene's image with random lights, materials and camera effects."""
    light = _draw_light(rng)
    background = draw_surface(scene.camera, scene.board, rng)
    if light.shadow > 0:
        background = _shadowed(background, scene, light)
    canvas = _PaintedScene(background, scene.camera)
    # Numbers: 0 ground, 1 to n objects, n + 1 the pole, then the flat images.
    last = len(scene.objects) + 1
    drawn = np.zeros(last + 1 + len(scene.flat_images))
    for number, placed in enumerate(scene.flat_images, start=last + 1):
        canvas.flat_image(placed, number)
        drawn[number] = np.count_nonzero(np.asarray(canvas.numbers) == number)
    for number in _far_to_near(scene):
        if number <= len(scene.objects):
            _draw_object(canvas, scene.objects[number - 1], light, number)
        elif scene.pole is not None:
            _draw_pole(canvas, scene.pole, light, number, rng)
        drawn[number] = np.count_nonzero(np.asarray(canvas.numbers) == number)
    # Pixels that later objects left uncovered, over the pixels that were drawn.
    left = np.bincount(np.asarray(canvas.numbers).ravel(), minlength=len(drawn))
    visible = (left / np.maximum(drawn, 1)).astype(np.float32)
    rgb = with_camera_effects(canvas.image, rng)
    return RenderedImage(
        rgb=rgb,
        visible=visible[1:last],
        pole_visible=float(visible[last]),
        flat_images_visible=visible[last + 1 :],
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
    """Return the numbers of objects and pole, by decreasing depth (painter's algorithm)."""
    centres = [item.centre for item in scene.objects]
    if scene.pole is not None:
        centres.append(scene.pole.centre)
    if not centres:
        return []
    depth = (np.stack(centres) - scene.camera.position[:2]) @ scene.camera.axes[2, :2]
    return [int(i) + 1 for i in np.argsort(-depth)]


def _shadowed(background: Image.Image, scene: Scene, light: _Light) -> Image.Image:
    """Return the ground darkened where prisms and pole cast their shadow."""
    mask = Image.new("L", background.size, 0)
    draw = ImageDraw.Draw(mask)
    slope = -light.towards[:2] / light.towards[2]  # horizontal shift a metre of height
    casts = [(item.centre + item.outline, 0.0, item.height) for item in scene.objects]
    if scene.pole is not None:
        around = scene.pole.centre + scene.pole.radius * _circle()
        casts.append((around, scene.pole.bottom, scene.pole.top))
    for base, low, high in casts:
        bottom = _SUPERSAMPLING * on_image(scene.camera, base + slope * low, 0.0)
        top = _SUPERSAMPLING * on_image(scene.camera, base + slope * high, 0.0)
        for quad in _quads(bottom, top):
            draw.polygon(quad.ravel().tolist(), fill=255)
        draw.polygon(top.ravel().tolist(), fill=255)
    if light.shadow_blur > 0.5:
        mask = mask.filter(ImageFilter.GaussianBlur(light.shadow_blur))
    dark = background.point([int(v * (1 - light.shadow)) for v in range(256)] * 3)
    return Image.composite(dark, background, mask)


def on_image(camera: SceneCamera, ground: Float64[Array, "points 2"], height: float) -> Pixels:
    """Return the image points of points at one height, in pixels; clipped far outside the image."""
    points = np.concatenate([ground, np.full((len(ground), 1), height)], axis=1)
    return np.clip(camera.project(points), -3, 4) * (WIDTH_PX, HEIGHT_PX)


def _quads(bottom: Pixels, top: Pixels) -> Float64[Array, "sides 4 2"]:
    """Return the vertical face over every side of an outline."""
    return np.stack([bottom, np.roll(bottom, -1, axis=0), np.roll(top, -1, axis=0), top], axis=1)


def _draw_object(canvas: _PaintedScene, item: SceneObject, light: _Light, number: int) -> None:
    base = item.centre + item.outline
    _draw_sides(canvas, base, (0.0, item.height), item.rgb, light, number)
    top = on_image(canvas.camera, base, item.height)
    canvas.polygon(top, item.rgb * (light.ambient + light.diffuse * light.towards[2]), number)


def _draw_sides(
    canvas: _PaintedScene,
    base: Float64[Array, "corners 2"],
    span: tuple[float, float],
    rgb: Float64[Array, "3"],
    light: _Light,
    number: int,
) -> None:
    """Paint the vertical faces that are turned to the camera, far ones first."""
    camera = canvas.camera.position[:2]
    nexts = np.roll(base, -1, axis=0)
    along = nexts - base
    normals = np.stack([along[:, 1], -along[:, 0]], axis=1)
    normals /= np.maximum(np.sqrt((normals**2).sum(axis=1, keepdims=True)), 1e-9)
    gaps = camera - (base + nexts) / 2
    facing = (gaps * normals).sum(axis=1) > 0
    # Lambert: brightness is the cosine between normal and lamp.
    lit = light.ambient + light.diffuse * np.maximum(normals @ light.towards[:2], 0)
    quads = _quads(*(on_image(canvas.camera, base, height) for height in span))
    for i in np.argsort(-(gaps**2).sum(axis=1)):
        if facing[i]:
            canvas.polygon(quads[i], rgb * lit[i], number)


def _draw_pole(
    canvas: _PaintedScene, pole: Pole, light: _Light, number: int, rng: np.random.Generator
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
    canvas.polygon(on_image(canvas.camera, rim, top), pole.rgb * lit, number)


def _circle() -> Float64[Array, "corners 2"]:
    angles = np.linspace(0, 2 * np.pi, _POLE_SIDES, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
