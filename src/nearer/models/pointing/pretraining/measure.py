"""Evaluation of a tower's pointing, on scenes that it was not trained on."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from nearer.core.arrays import Array
from nearer.models.pointing.pretraining.corpus import AnnotatedImage, draw_example
from nearer.models.pointing.pretraining.outlines import OUTLINES
from nearer.models.pointing.pretraining.scene import HEIGHT_PX, WIDTH_PX
from nearer.models.pointing.tower import PointingTower
from nearer.models.pointing.vocabulary import COLOURS, HELD_OUT, Name

_STREAM = 7_771
"""Seeds of evaluation scenes start with this number, those of training scenes do not."""
_BATCH = 32


def measure(tower: PointingTower, num_scenes: int, seed: int = 0) -> dict[str, float]:
    """Return pixel errors and the fraction of wrong objects, for training and held-out names.

    Keys: named_px_median, named_px_p90, wrong (another object is nearer than the named one), n;
    pole_px_median, pole_px_p90; and with unseen_ in front, for the held-out names alone, always
    among objects of the same colour and of the same shape.
    """
    familiar = [draw_example(_generator(seed, 0, i)) for i in range(num_scenes)]
    held_out = list(_composition_scenes(num_scenes, seed))
    errors = _object_errors(tower, familiar, "") | _pole_errors(tower, familiar)
    return errors | _object_errors(tower, held_out, "unseen_")


def _generator(*keys: int) -> np.random.Generator:
    return np.random.default_rng([_STREAM, *keys])


def _composition_scenes(num_scenes: int, seed: int) -> Iterator[AnnotatedImage]:
    """Draw scenes of one held-out name, first, among objects that share its colour or shape."""
    held_out = sorted(HELD_OUT)
    for i in range(num_scenes):
        rng = _generator(seed, 1, i)
        name = held_out[i % len(held_out)]
        same_colour = _others(rng, [(name[0], shape) for shape in OUTLINES])
        same_shape = _others(rng, [(colour, name[1]) for colour in COLOURS])
        rest = _others(rng, [(c, s) for c, _ in same_shape for _, s in same_colour])
        yield draw_example(rng, [name, *same_colour[:2], *same_shape[:2], *rest[:2]])


def _others(rng: np.random.Generator, names: Sequence[Name]) -> list[Name]:
    allowed = [name for name in names if name not in HELD_OUT]
    return [allowed[int(i)] for i in rng.permutation(len(allowed))]


def _object_errors(
    tower: PointingTower, examples: Sequence[AnnotatedImage], prefix: str
) -> dict[str, float]:
    """Evaluate one object an image by its full name: the first whose name is unambiguous."""
    targets: list[tuple[AnnotatedImage, int]] = []
    for example in examples:
        unique = [i for i, name in enumerate(example.names) if example.names.count(name) == 1]
        if prefix:
            unique = [i for i in unique if example.names[i] in HELD_OUT]
        if unique:
            targets.append((example, unique[0]))
    sentences = [" ".join(("the", *example.names[i])) for example, i in targets]
    predicted = _locate(tower, [example for example, _ in targets], sentences)[:, 0]
    errors, wrong = np.zeros(len(targets)), np.zeros(len(targets), bool)
    for k, (example, i) in enumerate(targets):
        distances = _pixels(example.points - predicted[k])
        errors[k], wrong[k] = distances[i], distances.argmin() != i
    return {
        f"{prefix}named_px_median": float(np.median(errors)),
        f"{prefix}named_px_p90": float(np.quantile(errors, 0.9)),
        f"{prefix}wrong": float(wrong.mean()),
        f"{prefix}n": len(targets),
    }


def _pole_errors(tower: PointingTower, examples: Sequence[AnnotatedImage]) -> dict[str, float]:
    with_pole = [(example, example.pole) for example in examples if example.pole is not None]
    images = [example for example, _ in with_pole]
    predicted = _locate(tower, images, ["push it"] * len(with_pole))[:, 2]
    errors = _pixels(np.stack([pole for _, pole in with_pole]) - predicted)
    return {
        "pole_px_median": float(np.median(errors)),
        "pole_px_p90": float(np.quantile(errors, 0.9)),
    }


def _locate(
    tower: PointingTower, examples: Sequence[AnnotatedImage], sentences: Sequence[str]
) -> Array:
    """Return u, v of the slots: examples x 3 x 2."""
    rows: list[Array] = []
    for start in range(0, len(examples), _BATCH):
        stop = start + _BATCH
        images = np.stack([example.image for example in examples[start:stop]])
        rows.append(tower.locate(torch.from_numpy(images), sentences[start:stop]).numpy())
    return np.concatenate(rows).reshape(-1, 3, 3)[..., :2]


def _pixels(offsets: Array) -> Array:
    return np.hypot(offsets[:, 0] * WIDTH_PX, offsets[:, 1] * HEIGHT_PX)
