"""`nearer pretrain`: joint pretraining of vision and language, on rendered scenes."""

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
from nearer.models.pointing.pretraining.corpus import (
    AnnotatedImage,
    draw_batch,
    draw_example,
    mirrored,
)
from nearer.models.pointing.pretraining.flat_images import (
    FlatImage,
    easy_vqa_images,
    emoji_images,
)
from nearer.models.pointing.pretraining.measure import measure
from nearer.models.pointing.pretraining.settings import PretrainConfig
from nearer.models.pointing.self_training import warmup_cosine
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import NUM_SLOTS, PointingTower, TowerConfig
from nearer.models.pointing.vocabulary import ANYTHING_WORDS, COLOUR_WORDS, SHAPE_WORDS
from nearer.models.pointing.weights import (
    channels_last,
    load_pointing,
    save_pointing,
    settings_json,
)

_TRAINING_STREAM, _WEIGHTS_STREAM, _BATCH_STREAM = 1, 2, 3
_IMAGES_PER_TASK = 250  # of a worker process
_WARMUP_UPDATES = 50
_SENTENCES = 4
"""About every image of a batch."""


def pretrain(config: PretrainConfig, on_progress: ProgressCallback) -> Path:
    """Draw images, train on them, evaluate on others, and return the folder of the weights.

    Raises:
        ConfigError: a package with images or weights is not installed, or --emoji is another
            folder.
    """
    album = _album(config)
    tower = new_tower(config, album)
    examples = _draw_examples(config, album, on_progress)
    weights = [weight for weight in tower.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    rng = np.random.default_rng([_BATCH_STREAM, config.seed])
    recent: dict[str, float] = {}
    for update, minibatch in enumerate(_minibatches(config, examples, rng)):
        factor = warmup_cosine(update, config.updates, _WARMUP_UPDATES)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        losses = _losses(tower, minibatch, rng)
        loss = losses["pointing"] + config.naming * losses["naming"]
        loss = loss + config.matching * losses["matching"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        for name, value in losses.items():  # exponential moving averages
            recent[name] = 0.98 * recent.get(name, value.item()) + 0.02 * value.item()
        shown = {name: f"{value:.2f}" for name, value in recent.items()}
        on_progress(Progress(stage="pretrain", done=update + 1, total=config.updates, values=shown))
    tower.eval()
    return _save(config, tower, recent)


def new_tower(config: PretrainConfig, album: Sequence[FlatImage] = ()) -> PointingTower:
    """Return the tower before pretraining: the ImageNet trunk and the rest random, or --start.

    Raises:
        ConfigError: the package with the ImageNet weights is not installed.
    """
    if config.start is not None:
        return load_pointing(config.start).train()
    album_words = " ".join(flat_image.words for flat_image in album).split()
    vocabulary = Vocabulary(words_of_the_corpus(album_words))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * _WEIGHTS_STREAM + config.seed)
        tower = PointingTower(TowerConfig(), vocabulary)
    if config.imagenet:
        tower.trunk.load_state_dict(imagenet_trunk())
    return channels_last(sharpened(tower))


def _album(config: PretrainConfig) -> list[FlatImage]:
    emoji = emoji_images(config.emoji) if config.emoji is not None else []
    return emoji + (easy_vqa_images() if config.easy_vqa else [])


def _draw_examples(
    config: PretrainConfig, album: list[FlatImage], on_progress: ProgressCallback
) -> list[AnnotatedImage]:
    starts = range(0, config.images, _IMAGES_PER_TASK)
    draw = partial(_draw_task, config.seed, config.images, album)
    examples: list[AnnotatedImage] = []
    with ExitStack() as stack:
        chunks = map(draw, starts)
        if config.workers > 1:  # forkserver, since torch's threads do not survive a fork
            context = get_context("forkserver")
            pool = stack.enter_context(ProcessPoolExecutor(config.workers, mp_context=context))
            chunks = pool.map(draw, starts)
        for chunk in chunks:
            examples += chunk
            on_progress(Progress(stage="images", done=len(examples), total=config.images))
    return examples


def _draw_task(
    seed: int, num_images: int, album: list[FlatImage], start: int
) -> list[AnnotatedImage]:
    return [
        draw_example(np.random.default_rng([_TRAINING_STREAM, seed, i]), album=album)
        for i in range(start, min(start + _IMAGES_PER_TASK, num_images))
    ]


def _minibatches(
    config: PretrainConfig, examples: Sequence[AnnotatedImage], rng: np.random.Generator
) -> Iterator[list[AnnotatedImage]]:
    """Yield minibatches of one epoch after another, each image mirrored with probability 1/2."""
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


def _losses(
    tower: PointingTower, examples: Sequence[AnnotatedImage], rng: np.random.Generator
) -> dict[str, Float[Tensor, ""]]:
    batch = draw_batch(examples, _SENTENCES, rng)
    keys = tower.keys(batch.images, tower.maps(batch.images))
    shape = (len(examples), _SENTENCES, NUM_SLOTS)
    queries = tower.queries(batch.sentences).reshape(*shape, keys.shape[1])
    logits = tower.logits(keys, queries.flatten(1, 2)).reshape(*shape, *keys.shape[2:])
    slots = pointing_loss(logits, batch.points, batch.weights)
    sharpness = tower.log_sharpness.exp()
    down, across = (int(offset) for offset in rng.integers(2, size=2))
    quarter = keys[:, :, down::2, across::2]  # a fourth of the cells, to save time
    return {
        "pointing": slots.sum(),
        "naming": _naming_losses(tower, keys, examples, rng),
        "matching": matching_loss(quarter, queries[:, 0, :2], sharpness),
    }


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
    frame, u, v, colour, shape = torch.tensor(rows, dtype=torch.float64).T
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


def _draw(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _save(config: PretrainConfig, tower: PointingTower, losses: dict[str, float]) -> Path:
    settings = asdict(config) | {"emoji": config.emoji is not None}
    settings["start"] = None if config.start is None else settings_json(config.start)
    for name in ("out", "workers"):  # of this machine, and without effect on the weights
        settings.pop(name)
    pretraining = {
        "settings": settings,
        "losses": {name: round(value, 4) for name, value in losses.items()},
        "measures": measure(tower, config.measured, config.seed),
    }
    save_pointing(tower, config.out, pretraining)
    return config.out
