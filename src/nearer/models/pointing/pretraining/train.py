"""`nearer pretrain`: the joint stage of vision and language, on pictures that are no tabletop's."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nearer.core.callbacks import Progress, ProgressCallback
from nearer.models.pointing.imagenet import imagenet_trunk, sharpened
from nearer.models.pointing.losses import matching_loss, naming_loss, pointing_loss
from nearer.models.pointing.pretraining.captions import words_of_the_corpus
from nearer.models.pointing.pretraining.cards import Card, easy_vqa_cards, emoji_cards
from nearer.models.pointing.pretraining.corpus import (
    Batch,
    Example,
    draw_batch,
    draw_example,
    mirrored,
)
from nearer.models.pointing.pretraining.measure import measure
from nearer.models.pointing.pretraining.settings import PretrainConfig
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import NUM_SLOTS, PointingTower, TowerConfig
from nearer.models.pointing.vocabulary import ANYTHING_WORDS, COLOUR_WORDS, SHAPE_WORDS
from nearer.models.pointing.weights import described, load_pointing, prepared, save_pointing

_TRAINING_STREAM, _WEIGHTS_STREAM, _BATCH_STREAM = 1, 2, 3
_CHUNK = 250
_WARMUP_UPDATES = 50
_SENTENCES = 4
"""Asked of every picture of a batch."""


def pretrain(config: PretrainConfig, on_progress: ProgressCallback) -> Path:
    """Draw the pictures, train on them, measure on others, and return the folder of the weights.

    Raises:
        ConfigError: a package that it learns from is not installed, or a folder is not what it
            should be.
    """
    album = _album(config)
    tower = new_tower(config, album)
    examples = _draw_pictures(config, album, on_progress)
    weights = [one for one in tower.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    rng = np.random.default_rng([_BATCH_STREAM, config.seed])
    recent: dict[str, float] = {}
    for update, chosen in enumerate(_batches(config, examples, rng)):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(update, config.updates)
        losses = _losses(tower, chosen, rng)
        loss = losses["pointing"] + config.naming * losses["naming"]
        loss = loss + config.matching * losses["matching"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        for name, value in losses.items():
            recent[name] = 0.98 * recent.get(name, value.item()) + 0.02 * value.item()
        shown = {name: f"{value:.2f}" for name, value in recent.items()}
        on_progress(Progress(stage="pretrain", done=update + 1, total=config.updates, values=shown))
    tower.eval()
    return _finished(config, tower, recent)


def new_tower(config: PretrainConfig, album: Sequence[Card] = ()) -> PointingTower:
    """Return the tower before pretraining, ImageNet's eyes and the rest random, or --start's.

    Raises:
        ConfigError: the package with ImageNet's weights is not installed.
    """
    if config.start is not None:
        return load_pointing(config.start).train()
    vocabulary = Vocabulary(words_of_the_corpus(" ".join(one.words for one in album).split()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * _WEIGHTS_STREAM + config.seed)
        tower = PointingTower(TowerConfig(), vocabulary)
    if config.imagenet:
        tower.trunk.load_state_dict(imagenet_trunk())
    return prepared(sharpened(tower))


def _album(config: PretrainConfig) -> list[Card]:
    cards = emoji_cards(config.emoji) if config.emoji is not None else []
    return cards + (easy_vqa_cards() if config.easy_vqa else [])


def _draw_pictures(
    config: PretrainConfig, album: list[Card], on_progress: ProgressCallback
) -> list[Example]:
    starts = range(0, config.images, _CHUNK)
    draw = partial(_draw_chunk, config.seed, config.images, album)
    examples: list[Example] = []
    with ExitStack() as stack:
        chunks = map(draw, starts)
        if config.workers > 1:  # forkserver, since torch's threads do not survive a fork
            context = get_context("forkserver")
            pool = stack.enter_context(ProcessPoolExecutor(config.workers, mp_context=context))
            chunks = pool.map(draw, starts)
        for chunk in chunks:
            examples += chunk
            on_progress(Progress(stage="pictures", done=len(examples), total=config.images))
    return examples


def _draw_chunk(seed: int, pictures: int, album: list[Card], start: int) -> list[Example]:
    return [
        draw_example(np.random.default_rng([_TRAINING_STREAM, seed, i]), album=album)
        for i in range(start, min(start + _CHUNK, pictures))
    ]


def _batches(
    config: PretrainConfig, examples: Sequence[Example], rng: np.random.Generator
) -> Iterator[list[Example]]:
    """Go through all pictures in random order, again and again, every other one mirrored."""
    waiting: list[int] = []
    for _ in range(config.updates):
        while len(waiting) < config.batch_size:
            waiting += rng.permutation(len(examples)).tolist()
        now, waiting = waiting[: config.batch_size], waiting[config.batch_size :]
        mirror = rng.random(len(now)) < 0.5
        yield [
            mirrored(examples[i]) if turn else examples[i]
            for i, turn in zip(now, mirror, strict=True)
        ]


def _schedule(update: int, updates: int) -> float:
    warm = min(1.0, (update + 1) / _WARMUP_UPDATES)
    return warm * 0.5 * (1 + math.cos(math.pi * update / updates))


def _losses(
    tower: PointingTower, examples: Sequence[Example], rng: np.random.Generator
) -> dict[str, Float[Tensor, ""]]:
    batch: Batch = draw_batch(examples, _SENTENCES, rng)
    keys = tower.keys(batch.pictures, tower.maps(batch.pictures))
    shape = (len(examples), _SENTENCES, NUM_SLOTS)
    queries = tower.queries(batch.sentences).reshape(*shape, keys.shape[1])
    logits = tower.logits(keys, queries.flatten(1, 2)).reshape(*shape, *keys.shape[2:])
    slots = pointing_loss(logits, batch.points, batch.weights)
    sharpness = tower.log_sharpness.exp()
    down, across = (int(one) for one in rng.integers(2, size=2))
    quarter = keys[:, :, down::2, across::2]  # every fourth cell is enough to find what is there
    return {
        "pointing": slots.sum(),
        "naming": _naming(tower, keys, examples, rng),
        "matching": matching_loss(quarter, queries[:, 0, :2], sharpness),
    }


def _naming(
    tower: PointingTower,
    keys: Float[Tensor, "frames width rows columns"],
    examples: Sequence[Example],
    rng: np.random.Generator,
) -> Float[Tensor, ""]:
    """Return how badly colours and shapes are named where the things are, cards left out."""
    shapes, colours = list(SHAPE_WORDS), list(COLOUR_WORDS)
    rows = [
        (frame, *point, colours.index(colour), shapes.index(shape))
        for frame, one in enumerate(examples)
        for (colour, shape), point in zip(one.names, one.points, strict=True)
        if colour and (point >= 0).all() and (point < 1).all()
    ]
    if not rows:
        return keys.sum() * 0
    frame, u, v, colour, shape = torch.tensor(rows, dtype=torch.float64).T
    y, x = (v * keys.shape[2]).long(), (u * keys.shape[3]).long()
    at_things = keys[frame.long(), :, y, x]
    called = [_draw(rng, SHAPE_WORDS[one]) for one in shapes]
    called += [f"{_draw(rng, COLOUR_WORDS[one])} {_draw(rng, ANYTHING_WORDS)}" for one in colours]
    words = tower.queries(called)[:, 0]
    sharpness = tower.log_sharpness.exp()
    of_shape = naming_loss(at_things, words[: len(shapes)], shape.long(), sharpness)
    of_colour = naming_loss(at_things, words[len(shapes) :], colour.long(), sharpness)
    return of_shape + of_colour


def _draw(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _finished(config: PretrainConfig, tower: PointingTower, losses: dict[str, float]) -> Path:
    settings = asdict(config) | {"emoji": config.emoji is not None}
    settings["start"] = None if config.start is None else described(config.start)
    for local in ("out", "workers"):  # of this machine, and of no effect on the weights
        settings.pop(local)
    facts = {
        "settings": settings,
        "losses": {name: round(value, 4) for name, value in losses.items()},
        "measures": measure(tower, config.measured, config.seed),
    }
    save_pointing(tower, config.out, facts)
    return config.out
