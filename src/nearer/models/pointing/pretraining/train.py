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
from nearer.models.pointing.frame_training import warmup_cosine
from nearer.models.pointing.lite0_network import Lite0Network
from nearer.models.pointing.pretraining.captions import words_of_the_corpus
from nearer.models.pointing.pretraining.corpus import (
    AnnotatedImage,
    draw_example,
    mirrored,
)
from nearer.models.pointing.pretraining.flat_images import (
    FlatImage,
    easy_vqa_images,
    emoji_images,
)
from nearer.models.pointing.pretraining.imagenet import imagenet_lite0
from nearer.models.pointing.pretraining.measure import measure
from nearer.models.pointing.pretraining.objectives import MultimodalObjective, UnimodalObjective
from nearer.models.pointing.pretraining.settings import PretrainConfig
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig
from nearer.models.pointing.weights import (
    channels_last,
    load_pointing,
    save_pointing,
    settings_json,
)

_TRAINING_STREAM, _WEIGHTS_STREAM, _BATCH_STREAM = 1, 2, 3
_IMAGES_PER_TASK = 250  # of a worker process
_WARMUP_UPDATES = 50


def pretrain(config: PretrainConfig, on_progress: ProgressCallback) -> Path:
    """Draw images, train on them, evaluate on others, and return the folder of the weights.

    Raises:
        ConfigError: a package with images or weights is not installed, or --emoji is another
            folder.
    """
    album = _album(config)
    tower = new_tower(config, album).to(config.device)
    objective = _objective(config, tower).to(config.device)
    examples = _draw_examples(config, album, on_progress)
    weights = [w for w in (*tower.parameters(), *objective.parameters()) if w.requires_grad]
    importance = {"naming": config.naming, "matching": config.matching}
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    rng = np.random.default_rng([_BATCH_STREAM, config.seed])
    recent: dict[str, float] = {}
    for update, minibatch in enumerate(_minibatches(config, examples, rng)):
        factor = warmup_cosine(update, config.updates, _WARMUP_UPDATES)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        losses: dict[str, Float[Tensor, ""]] = objective(tower, minibatch, rng)
        total = torch.stack([importance.get(name, 1.0) * loss for name, loss in losses.items()])
        optimizer.zero_grad()
        total.sum().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        for name, value in losses.items():  # exponential moving averages
            recent[name] = 0.98 * recent.get(name, value.item()) + 0.02 * value.item()
        shown = {name: f"{value:.2f}" for name, value in recent.items()}
        on_progress(Progress(stage="pretrain", done=update + 1, total=config.updates, values=shown))
    tower.to("cpu").eval()
    return _save(config, tower, recent)


def _objective(
    config: PretrainConfig, tower: PointingTower
) -> MultimodalObjective | UnimodalObjective:
    if config.objective == "multimodal":
        return MultimodalObjective()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * _WEIGHTS_STREAM + config.seed)
        return UnimodalObjective(imagenet_lite0(), tower.config.width)


def new_tower(config: PretrainConfig, album: Sequence[FlatImage] = ()) -> PointingTower:
    """Return the tower before pretraining: random but for an ImageNet trunk, or that of --start.

    Raises:
        ConfigError: the package with the ImageNet weights is needed and not installed.
    """
    if config.start is not None:
        return load_pointing(config.start).train()
    album_words = " ".join(flat_image.words for flat_image in album).split()
    vocabulary = Vocabulary(words_of_the_corpus(album_words))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * _WEIGHTS_STREAM + config.seed)
        tower = PointingTower(TowerConfig(network=config.network), vocabulary)
    if isinstance(tower.network, Lite0Network):
        tower.network.trunk.load_state_dict(imagenet_lite0().state_dict())
    return channels_last(tower)


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


def _save(config: PretrainConfig, tower: PointingTower, losses: dict[str, float]) -> Path:
    settings = asdict(config) | {"emoji": config.emoji is not None}
    settings["start"] = None if config.start is None else settings_json(config.start)
    for name in ("out", "workers", "device"):  # of this machine, and without effect on the weights
        settings.pop(name)
    pretraining = {
        "settings": settings,
        "losses": {name: round(value, 4) for name, value in losses.items()},
        "measures": {}
        if config.objective == "unimodal"
        else measure(tower, config.measured, config.seed),
    }
    save_pointing(tower, config.out, pretraining)
    return config.out
