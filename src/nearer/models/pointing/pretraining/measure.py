"""How well a tower points, on scenes that it was never trained on."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from nearer.core.arrays import Array
from nearer.models.pointing.pretraining.corpus import Example, draw_example
from nearer.models.pointing.pretraining.outlines import OUTLINES
from nearer.models.pointing.pretraining.scene import HEIGHT_PX, WIDTH_PX
from nearer.models.pointing.tower import PointingTower
from nearer.models.pointing.vocabulary import COLOURS, HELD_OUT, Name

_STREAM = 7_771
"""Seeds of measured scenes start with this number, those of training scenes do not."""
_BATCH = 32


def measure(tower: PointingTower, num_scenes: int, seed: int = 0) -> dict[str, float]:
    """Return errors in pixels and shares of wrong things, on new scenes and on unseen names.

    Keys: named_px_median, named_px_p90, wrong (the nearest thing is another than the named), n;
    pole_px_median, pole_px_p90; and with unseen_ in front, for the held-out names alone, always
    among things of the same colour and of the same shape.
    """
    seen = [draw_example(_generator(seed, 0, i)) for i in range(num_scenes)]
    unseen = list(_composition_scenes(num_scenes, seed))
    return _named(tower, seen, "") | _pole(tower, seen) | _named(tower, unseen, "unseen_")


def _generator(*keys: int) -> np.random.Generator:
    return np.random.default_rng([_STREAM, *keys])


def _composition_scenes(num_scenes: int, seed: int) -> Iterator[Example]:
    """Draw scenes of one held-out name, first, among things that share its colour or its shape."""
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


def _named(tower: PointingTower, examples: Sequence[Example], prefix: str) -> dict[str, float]:
    """Ask for one thing a picture by its full name: its first, where that names it alone."""
    asked: list[tuple[Example, int]] = []
    for example in examples:
        alone = [i for i, name in enumerate(example.names) if example.names.count(name) == 1]
        if prefix:
            alone = [i for i in alone if example.names[i] in HELD_OUT]
        if alone:
            asked.append((example, alone[0]))
    sentences = [" ".join(("the", *example.names[i])) for example, i in asked]
    found = _see(tower, [example for example, _ in asked], sentences)[:, 0]
    errors, wrong = np.zeros(len(asked)), np.zeros(len(asked), bool)
    for k, (example, i) in enumerate(asked):
        distances = _pixels(example.points - found[k])
        errors[k], wrong[k] = distances[i], distances.argmin() != i
    return {
        f"{prefix}named_px_median": float(np.median(errors)),
        f"{prefix}named_px_p90": float(np.quantile(errors, 0.9)),
        f"{prefix}wrong": float(wrong.mean()),
        f"{prefix}n": len(asked),
    }


def _pole(tower: PointingTower, examples: Sequence[Example]) -> dict[str, float]:
    with_pole = [(one, one.pole) for one in examples if one.pole is not None]
    found = _see(tower, [one for one, _ in with_pole], ["push it"] * len(with_pole))[:, 2]
    errors = _pixels(np.stack([pole for _, pole in with_pole]) - found)
    return {
        "pole_px_median": float(np.median(errors)),
        "pole_px_p90": float(np.quantile(errors, 0.9)),
    }


def _see(tower: PointingTower, examples: Sequence[Example], sentences: Sequence[str]) -> Array:
    """Return u, v of the slots: examples x 3 x 2."""
    rows: list[Array] = []
    for start in range(0, len(examples), _BATCH):
        stop = start + _BATCH
        pictures = torch.from_numpy(np.stack([one.picture for one in examples[start:stop]]))
        rows.append(tower.see(pictures, sentences[start:stop]).numpy())
    return np.concatenate(rows).reshape(-1, 3, 3)[..., :2]


def _pixels(offsets: Array) -> Array:
    return np.hypot(offsets[:, 0] * WIDTH_PX, offsets[:, 1] * HEIGHT_PX)
