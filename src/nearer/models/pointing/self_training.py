"""The sight in Stage 1: it learns from the demonstrations' own frames, without any label.

    looks at an episode --trace--> where each thing was in every frame
    a frame and its instruction --eyes, words--> softmax over the picture, to point there

What is clear in some frames of an episode teaches those in which the effector hides it or two
shapes look alike. No simulator's position is used, only pictures and instructions. Measured on
other demonstrations, wrong looks fall by a third to a half (docs/log.md).

Source: learning from one's own confident answers, Lee 2013 (pseudo-labels); here the answers are
made consistent over time first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn

from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.models.parallel import side_by_side
from nearer.models.pointing.losses import pointing_loss
from nearer.models.pointing.tower import NUM_SLOTS, PointingTower
from nearer.models.pointing.tracking import trace

_BATCH_SIZE = 32
_AT_ONCE = 8
"""Frames; more leave the processor's cache: all 32 took 1.7 times as long."""
_LEARNING_RATE = 1e-3
_WARMUP_UPDATES = 20
_WEIGHT_DECAY = 0.02
_LEAST_SHARE = 0.5
"""A thing whose peaks hold less on average over an episode teaches nothing there."""


def trainable(tower: PointingTower) -> list[nn.Parameter]:
    """Return what learns: the fine eyes and the words; ImageNet's trunk stays."""
    return [*tower.eyes.parameters(), *tower.words.parameters()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Frames, and where to point in them.

    Attributes:
        pictures: may be larger than memory; a part of a batch is read at a time.
        frames: rows of the pictures that are learned from.
        sentences: one a frame.
        targets: u, v and weight of each thing, from `path_targets`.
    """

    pictures: UInt8[Array, "all_frames h w 3"]
    frames: Int64[Array, "frames"]
    sentences: Sequence[str]
    targets: Float32[Array, "frames slots 3"]

    def loss(self, tower: PointingTower, rows: Int64[Array, "part"]) -> Float[Tensor, ""]:
        """Return how far the tower is from pointing right in these frames."""
        pictures = torch.from_numpy(self.pictures[self.frames[rows]])
        queries = tower.queries([self.sentences[int(row)] for row in rows])
        logits = tower.logits(tower.keys(pictures, tower.maps(pictures)), queries)
        aimed = torch.from_numpy(self.targets[rows]).reshape(len(rows), 1, NUM_SLOTS, 1, 3)
        return pointing_loss(logits[:, None], aimed[..., :2], aimed[..., 2]).sum()


def adapt(
    tower: PointingTower,
    lessons: Lessons,
    updates: int,
    rng: np.random.Generator,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Train the tower, in place, to point where the lessons say.

    Args:
        tower: from `load_pointing`.
        lessons: frames and targets.
        updates: steps of AdamW; the rate falls on a half cosine.
        rng: chooses the frames.
        on_progress: sees the progress.
    """
    weights = trainable(tower)
    for one in weights:
        one.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def gradients(rows: Int64[Array, "part"]) -> tuple[Tensor, ...]:
        loss = lessons.loss(tower, rows)
        return loss.detach(), *torch.autograd.grad(loss, weights, materialize_grads=True)

    for update in range(updates):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * _schedule(update, updates)
        parts = rng.integers(0, len(lessons.frames), _BATCH_SIZE).reshape(-1, _AT_ONCE)
        found = zip(*side_by_side(gradients, list(parts)), strict=True)
        loss, *mean = (torch.stack(one).mean(dim=0) for one in found)
        for one, gradient in zip(weights, mean, strict=True):
            one.grad = gradient
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        shown = {"pointing": f"{loss.item():.2f}"}
        on_progress(Progress(stage="learning to see", done=update + 1, total=updates, values=shown))
    for one in weights:
        one.requires_grad_(False)


def path_targets(
    encodings: Float32[Array, "frames slots 2 3"],
    episode_lengths: Int64[Array, "episodes"],
    aspect: float,
) -> Float32[Array, "frames slots 3"]:
    """Return u, v of each thing in every frame, and how much it may teach.

    Args:
        encodings: from `two_peaks`, the frames of one episode after those of another.
        episode_lengths: frames an episode.
        aspect: width of the pictures over their height.
    """
    parts: list[Float32[Array, "frames slots 3"]] = []
    for start, stop in pairwise([0, *np.cumsum(episode_lengths).tolist()]):
        path = trace(encodings[start:stop], aspect).copy()
        clear = path[:, :, 2].mean(axis=0)
        path[:, :, 2] = np.where(clear >= _LEAST_SHARE, clear, 0.0)
        parts.append(path)
    return np.concatenate(parts)


def _schedule(update: int, updates: int) -> float:
    warm = min(1.0, (update + 1) / _WARMUP_UPDATES)
    return warm * 0.5 * (1 + math.cos(math.pi * update / updates))
