"""Annotated images, and the sentences and targets of a pretraining batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from nearer.core.arrays import Array
from nearer.models.pointing.pretraining.captions import POLE, Sentence, draw_sentence
from nearer.models.pointing.pretraining.flat_images import FlatImage
from nearer.models.pointing.pretraining.renderer import render
from nearer.models.pointing.pretraining.scene import Scene, draw_scene
from nearer.models.pointing.tower import NUM_SLOTS
from nearer.models.pointing.vocabulary import Name

MAX_MATCHES = 4
"""A mention that fits more objects trains on so many of them, drawn at random."""
_MIN_VISIBLE = 0.4
"""An object of which a smaller fraction is visible is not mentioned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedImage:
    """An image and the positions of what can be mentioned about it.

    Attributes:
        image: RGB.
        names: colour and shape of each object that is visible enough; then the flat images, whose
            colour is empty and whose shape is their name.
        points: u, v of the centre of each one's base.
        pole: u, v of the point on the ground below the pole's axis; None: no pole is visible.
        regions: u, v of nine regions of the board, by row from the far side and column.
    """

    image: UInt8[Array, "h w 3"]
    names: tuple[Name, ...]
    points: Float32[Array, "objects 2"]
    pole: Float32[Array, "2"] | None
    regions: Float32[Array, "3 3 2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingBatch:
    """Images, several sentences about each, and the targets of their slots.

    Attributes:
        images: RGB.
        sentences: `num_sentences` for each image, one image's after the other's.
        points: u, v of what each slot may point to.
        weights: of these points in the target distribution; all 0: the slot has no target.
    """

    images: UInt8[Tensor, "frames h w c"]
    sentences: tuple[str, ...]
    points: Float[Tensor, "frames num_sentences 3 matches 2"]
    weights: Float[Tensor, "frames num_sentences 3 matches"]


def draw_example(
    rng: np.random.Generator,
    names: Sequence[Name] | None = None,
    album: Sequence[FlatImage] = (),
) -> AnnotatedImage:
    """Draw a random scene and render it.

    Args:
        rng: of every choice.
        names: of the objects; None: drawn at random, without held-out pairs.
        album: flat images of which some may lie in it.
    """
    scene = draw_scene(rng, names, album)
    rendered = render(scene, rng)
    objects = [
        item
        for item, fraction in zip(scene.objects, rendered.visible, strict=True)
        if fraction >= _MIN_VISIBLE
    ]
    flat_images = [
        placed
        for placed, fraction in zip(scene.flat_images, rendered.flat_images_visible, strict=True)
        if fraction >= _MIN_VISIBLE
    ]
    centres = [item.centre for item in (*objects, *flat_images)]
    pole = None
    if scene.pole is not None and rendered.pole_visible > 0:
        uv = _on_ground(scene, scene.pole.centre[None])[0]
        pole = uv if (uv > 0).all() and (uv < 1).all() else None
    return AnnotatedImage(
        image=rendered.rgb,
        names=(
            *(item.name for item in objects),
            *(("", placed.flat.words) for placed in flat_images),
        ),
        points=_on_ground(scene, np.array(centres).reshape(-1, 2)),
        pole=pole,
        regions=_regions(scene),
    )


def _on_ground(scene: Scene, points: Float64[Array, "points 2"]) -> Float32[Array, "points 2"]:
    in_space = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
    return scene.camera.project(in_space).astype(np.float32)


def _regions(scene: Scene) -> Float32[Array, "3 3 2"]:
    """Return the centres of a 3 x 3 grid over the board, bilinear between its corners."""
    far_left, far_right, near_right, near_left = scene.board
    steps = np.array([1 / 6, 1 / 2, 5 / 6])
    across, down = steps[None, :, None], steps[:, None, None]
    far = far_left + across * (far_right - far_left)
    near = near_left + across * (near_right - near_left)
    return _on_ground(scene, (far + down * (near - far)).reshape(9, 2)).reshape(3, 3, 2)


def mirrored(example: AnnotatedImage) -> AnnotatedImage:
    """Return the example flipped left to right; no sentence distinguishes the two."""

    def flipped(points: Float32[Array, "*points 2"]) -> Float32[Array, "*points 2"]:
        return points * np.array([-1, 1], np.float32) + np.array([1, 0], np.float32)

    return replace(
        example,
        image=np.ascontiguousarray(example.image[:, ::-1]),
        points=flipped(example.points),
        pole=None if example.pole is None else flipped(example.pole),
        regions=flipped(example.regions)[:, ::-1],
    )


def draw_batch(
    examples: Sequence[AnnotatedImage], num_sentences: int, rng: np.random.Generator
) -> PretrainingBatch:
    """Return sentences about these examples; the first of each mentions two objects."""
    shape = (len(examples), num_sentences, NUM_SLOTS, MAX_MATCHES)
    points, weights = np.full((*shape, 2), 0.5, np.float32), np.zeros(shape, np.float32)
    texts: list[str] = []
    for i, example in enumerate(examples):
        for j in range(num_sentences):
            drawn = draw_sentence(rng, example.names, example.pole is not None, two=j == 0)
            texts.append(drawn.text)
            for slot, targets in enumerate(_targets(example, drawn)):
                targets = rng.permutation(targets)[:MAX_MATCHES]
                points[i, j, slot, : len(targets)] = targets
                weights[i, j, slot, : len(targets)] = 1 / max(len(targets), 1)
    return PretrainingBatch(
        images=torch.from_numpy(np.stack([example.image for example in examples])),
        sentences=tuple(texts),
        points=torch.from_numpy(points),
        weights=torch.from_numpy(weights),
    )


def _targets(example: AnnotatedImage, sentence: Sentence) -> list[Float32[Array, "matches 2"]]:
    """Return the points that each of the three slots may point to, those inside the image."""
    slots = [_points(example, sentence.first), _points(example, sentence.second)]
    if sentence.region is not None:
        slots[1] = example.regions[sentence.region][None]
    slots.append(_points(example, (POLE,)))
    return [points[((points > 0) & (points < 1)).all(axis=1)] for points in slots]


def _points(example: AnnotatedImage, numbers: Sequence[int]) -> Float32[Array, "matches 2"]:
    if POLE in numbers:
        return np.zeros((0, 2), np.float32) if example.pole is None else example.pole[None]
    return example.points[list(numbers)]
