"""What pretraining minimises: with sentences (multimodal), or from images alone (unimodal)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from nearer.models.pointing.efficientnet_lite0 import CHANNELS, Lite0
from nearer.models.pointing.losses import matching_loss, naming_loss, pointing_loss
from nearer.models.pointing.pretraining.corpus import AnnotatedImage, draw_batch
from nearer.models.pointing.tower import NUM_SLOTS, PointingTower
from nearer.models.pointing.vocabulary import ANYTHING_WORDS, COLOUR_WORDS, SHAPE_WORDS

_SENTENCES = 4
"""About every image of a batch."""


class MultimodalObjective(nn.Module):
    """Point at what sentences mention, name objects, match captions and images."""

    def forward(
        self, tower: PointingTower, examples: Sequence[AnnotatedImage], rng: np.random.Generator
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the losses by name."""
        batch = draw_batch(examples, _SENTENCES, rng)
        keys = tower.keys(batch.images.to(_device(tower)))
        shape = (len(examples), _SENTENCES, NUM_SLOTS)
        queries = tower.queries(batch.sentences).reshape(*shape, keys.shape[1])
        logits = tower.logits(keys, queries.flatten(1, 2)).reshape(*shape, *keys.shape[2:])
        slots = pointing_loss(logits, batch.points.to(keys.device), batch.weights.to(keys.device))
        sharpness = tower.log_sharpness.exp()
        down, across = (int(offset) for offset in rng.integers(2, size=2))
        quarter = keys[:, :, down::2, across::2]  # a fourth of the cells, to save time
        return {
            "pointing": slots.sum(),
            "naming": _naming_losses(tower, keys, examples, rng),
            "matching": matching_loss(quarter, queries[:, 0, :2], sharpness),
        }


class UnimodalObjective(nn.Module):
    """Reproduce the features of a network trained on ImageNet: feature distillation.

    A linear layer maps keys, averaged over the teacher's cells, to the teacher's features; it is
    thrown away afterwards. Source: Romero et al. 2015 (FitNets), arXiv:1412.6550.

    Args:
        teacher: the network trained on ImageNet.
        width: of keys.
    """

    def __init__(self, teacher: Lite0, width: int) -> None:
        super().__init__()
        self.teacher = teacher
        self.regressor = nn.Conv2d(width, CHANNELS, 1)

    def forward(
        self, tower: PointingTower, examples: Sequence[AnnotatedImage], rng: np.random.Generator
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the mean squared error of the features, in their variances."""
        images = torch.from_numpy(np.stack([example.image for example in examples]))
        images = images.to(_device(tower))
        with torch.no_grad():
            features = self.teacher(images)
        keys = adaptive_avg_pool2d(tower.keys(images), features.shape[2:])
        scale = features.std(dim=(0, 2, 3), keepdim=True)
        return {"features": ((self.regressor(keys) - features) / scale).square().mean()}


def _naming_losses(
    tower: PointingTower,
    keys: Float[Tensor, "frames width rows columns"],
    examples: Sequence[AnnotatedImage],
    rng: np.random.Generator,
) -> Float[Tensor, ""]:
    """Return the losses of classifying shape and colour at every object, flat images left out."""
    shapes, colours = list(SHAPE_WORDS), list(COLOUR_WORDS)
    rows = [
        (frame, *point, colours.index(colour), shapes.index(shape))
        for frame, example in enumerate(examples)
        for (colour, shape), point in zip(example.names, example.points, strict=True)
        if colour and (point >= 0).all() and (point < 1).all()
    ]
    if not rows:
        return keys.sum() * 0  # with a gradient, of zero
    frame, u, v, colour, shape = torch.tensor(rows, dtype=torch.float64, device=keys.device).T
    y, x = (v * keys.shape[2]).long(), (u * keys.shape[3]).long()
    object_keys = keys[frame.long(), :, y, x]
    phrases = [_draw(rng, SHAPE_WORDS[name]) for name in shapes]
    phrases += [
        f"{_draw(rng, COLOUR_WORDS[name])} {_draw(rng, ANYTHING_WORDS)}" for name in colours
    ]
    words = tower.queries(phrases)[:, 0]
    sharpness = tower.log_sharpness.exp()
    of_shape = naming_loss(object_keys, words[: len(shapes)], shape.long(), sharpness)
    of_colour = naming_loss(object_keys, words[len(shapes) :], colour.long(), sharpness)
    return of_shape + of_colour


def _device(tower: PointingTower) -> torch.device:
    return tower.log_sharpness.device


def _draw(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]
