"""Pictures with what they show, and the sentences and targets of a training batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from nearer.core.arrays import Array
from nearer.models.pointing.pretraining.captions import POLE, Sentence, draw_sentence
from nearer.models.pointing.pretraining.cards import Card
from nearer.models.pointing.pretraining.renderer import render
from nearer.models.pointing.pretraining.scene import Scene, draw_scene
from nearer.models.pointing.tower import NUM_SLOTS
from nearer.models.pointing.vocabulary import Name

MAX_MATCHES = 4
"""A mention that fits more things than this trains on so many of them."""
_MIN_VISIBLE = 0.4
"""A thing of which less can be seen is not spoken of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A picture and what can be said about it.

    Attributes:
        names: colour and shape of each thing that is seen well enough; then the cards, whose
            colour is empty and whose shape is their name.
        points: u, v of the middle of each one's base.
        pole: u, v of the point on the ground below the pole's axis; None: no pole in sight.
        places: u, v of nine places of the board, by row from the far side and column.
    """

    picture: UInt8[Array, "h w 3"]
    names: tuple[Name, ...]
    points: Float32[Array, "things 2"]
    pole: Float32[Array, "2"] | None
    places: Float32[Array, "3 3 2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pictures, several sentences about each, and where their slots should point.

    Attributes:
        sentences: `num_sentences` for each picture, one picture's after the other's.
        points: u, v of what each slot may point to.
        weights: how the target is spread over these points; 0 everywhere: nothing to learn.
    """

    pictures: UInt8[Tensor, "frames h w c"]
    sentences: tuple[str, ...]
    points: Float[Tensor, "frames num_sentences 3 matches 2"]
    weights: Float[Tensor, "frames num_sentences 3 matches"]


def draw_example(
    rng: np.random.Generator,
    names: Sequence[Name] | None = None,
    album: Sequence[Card] = (),
) -> Example:
    """Draw a scene and its picture.

    Args:
        rng: where all randomness comes from.
        names: what must lie in it; None: things of the scene's own choice, none held out.
        album: flat pictures of which some may lie in it.
    """
    scene = draw_scene(rng, names, album)
    picture = render(scene, rng)
    seen = [i for i, share in enumerate(picture.visible) if share >= _MIN_VISIBLE]
    cards = [
        card
        for card, share in zip(scene.cards, picture.cards_visible, strict=True)
        if share >= _MIN_VISIBLE
    ]
    centres = [scene.things[i].centre for i in seen] + [card.centre for card in cards]
    pole = None
    if scene.pole is not None and picture.pole_visible > 0:
        uv = _on_ground(scene, scene.pole.centre[None])[0]
        pole = uv if (uv > 0).all() and (uv < 1).all() else None
    return Example(
        picture=picture.rgb,
        names=(
            *(scene.things[i].name for i in seen),
            *(("", laid.card.words) for laid in cards),
        ),
        points=_on_ground(scene, np.array(centres).reshape(-1, 2)),
        pole=pole,
        places=_places(scene),
    )


def _on_ground(scene: Scene, points: Float64[Array, "points 2"]) -> Float32[Array, "points 2"]:
    raised = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
    return scene.camera.project(raised).astype(np.float32)


def _places(scene: Scene) -> Float32[Array, "3 3 2"]:
    far_left, far_right, near_right, near_left = scene.board
    steps = np.array([1 / 6, 1 / 2, 5 / 6])
    across, down = steps[None, :, None], steps[:, None, None]
    far = far_left + across * (far_right - far_left)
    near = near_left + across * (near_right - near_left)
    return _on_ground(scene, (far + down * (near - far)).reshape(9, 2)).reshape(3, 3, 2)


def mirrored(example: Example) -> Example:
    """Return the example as a mirror shows it; none of what is asked tells left from right."""

    def turn(points: Float32[Array, "*points 2"]) -> Float32[Array, "*points 2"]:
        return points * np.array([-1, 1], np.float32) + np.array([1, 0], np.float32)

    return replace(
        example,
        picture=np.ascontiguousarray(example.picture[:, ::-1]),
        points=turn(example.points),
        pole=None if example.pole is None else turn(example.pole),
        places=turn(example.places)[:, ::-1],
    )


def draw_batch(examples: Sequence[Example], num_sentences: int, rng: np.random.Generator) -> Batch:
    """Draw sentences about these examples; the first of each mentions two things."""
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
    return Batch(
        pictures=torch.from_numpy(np.stack([one.picture for one in examples])),
        sentences=tuple(texts),
        points=torch.from_numpy(points),
        weights=torch.from_numpy(weights),
    )


def _targets(example: Example, sentence: Sentence) -> list[Float32[Array, "matches 2"]]:
    """Return what the three slots may point to."""
    slots = [_points(example, sentence.first), _points(example, sentence.second)]
    if sentence.place is not None:
        slots[1] = example.places[sentence.place][None]
    slots.append(_points(example, (POLE,)))
    return [one[((one > 0) & (one < 1)).all(axis=1)] for one in slots]


def _points(example: Example, numbers: Sequence[int]) -> Float32[Array, "matches 2"]:
    if POLE in numbers:
        return np.zeros((0, 2), np.float32) if example.pole is None else example.pole[None]
    return example.points[list(numbers)]
