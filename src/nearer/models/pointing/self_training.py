"""Self-training of the vision encoder before Stage 1, on unlabelled demonstration frames.

    frames --the encoder itself, or its teacher--> encodings --smoothed path--> pseudo-labels
    a frame and an instruction --network, sentence encoder--> softmax over the image, cross-entropy

Frames of an episode in which an object is clearly visible supervise those in which the effector
occludes it or two shapes look alike, and occluded frames are drawn more often than they occur. A
frame is labelled for its own instruction and for some of other episodes: what those name is often
on the table, too. Only images and instructions are used, no simulator state.

What no demonstration shows is forgotten on the way: drawn scenes of the pretraining, rehearsed in
every update, keep it.

Source: Lee 2013 (pseudo-labels), for training on confident predictions; Hinton et al. 2015,
arXiv:1503.02531 (distillation), for those of a larger teacher; here they are made consistent over
time first. Robins 1995, Catastrophic Forgetting, Rehearsal and Pseudorehearsal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.models.pointing.augmentation import Augmentation
from nearer.models.pointing.frame_training import train_on_frames, trainable_parameters
from nearer.models.pointing.losses import pointing_loss
from nearer.models.pointing.tower import EFFECTOR, NUM_SLOTS, PointingTower
from nearer.models.pointing.tracking import behind_effector, smoothed_paths
from nearer.models.settings import SelfTrainingConfig

_REHEARSED_SENTENCES = 4
"""About every drawn scene, as in pretraining."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoLabels:
    """Frames, and where their objects are.

    Attributes:
        images: may be larger than memory; only the rows of a batch's part are read.
        frames: rows of `images` that are trained on.
        sentences: of each frame, equally many.
        targets: u, v and weight of each object, from `path_targets`.
        drawn: probability with which each frame is drawn for a minibatch.
    """

    images: UInt8[Array, "all_frames h w 3"]
    frames: Int64[Array, "frames"]
    sentences: Sequence[Sequence[str]]
    targets: Float32[Array, "frames sentences slots 3"]
    drawn: Float64[Array, "frames"]

    def loss(
        self, tower: PointingTower, rows: Int64[Array, "part"], augmentation: Augmentation | None
    ) -> Float[Tensor, ""]:
        """Return the tower's pointing loss on these frames, summed over slots."""
        images = torch.from_numpy(self.images[self.frames[rows]])
        targets = self.targets[rows]
        if augmentation is not None:
            targets = augmentation.targets(targets, images.shape[2] / images.shape[1])
            images = augmentation.images(images)
        queries = tower.queries([text for row in rows for text in self.sentences[int(row)]])
        num_sentences = targets.shape[1]
        logits = tower.logits(
            tower.keys(images), queries.reshape(len(rows), num_sentences * NUM_SLOTS, -1)
        )
        logits = logits.reshape(len(rows), num_sentences, NUM_SLOTS, *logits.shape[2:])
        points = torch.from_numpy(targets)[:, :, :, None]
        return pointing_loss(logits, points[..., :2], points[..., 2]).sum()


@dataclass(frozen=True, slots=True)
class LabelledPart:
    """Frames of a minibatch whose gradient is computed at once.

    Attributes:
        rows: of the pseudo-labels.
        augmentation: of these frames, or None.
    """

    rows: Int64[Array, "part"]
    augmentation: Augmentation | None


@dataclass(frozen=True, slots=True)
class RehearsedPart:
    """Scenes of the pretraining, drawn for one update.

    Attributes:
        seed: of everything in them.
        scenes: how many.
    """

    seed: int
    scenes: int

    def loss(self, tower: PointingTower) -> Float[Tensor, ""]:
        """Return the tower's pointing loss on these scenes, summed over slots."""
        # Here, so that who trains no encoder loads nothing that draws.
        from nearer.models.pointing.pretraining.corpus import draw_batch, draw_example

        rng = np.random.default_rng(self.seed)
        examples = [draw_example(rng) for _ in range(self.scenes)]
        batch = draw_batch(examples, _REHEARSED_SENTENCES, rng)
        queries = tower.queries(batch.sentences)
        logits = tower.logits(
            tower.keys(batch.images),
            queries.reshape(self.scenes, _REHEARSED_SENTENCES * NUM_SLOTS, -1),
        )
        shape = (self.scenes, _REHEARSED_SENTENCES, NUM_SLOTS)
        return pointing_loss(
            logits.reshape(*shape, *logits.shape[2:]), batch.points, batch.weights
        ).sum()


def adapt(
    tower: PointingTower,
    labels: PseudoLabels,
    config: SelfTrainingConfig,
    updates: int,
    rng: np.random.Generator,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Train the tower on pseudo-labels, in place, and freeze it again.

    Args:
        tower: from `load_pointing`.
        labels: frames and targets.
        config: batch size, learning rate and so on.
        updates: steps of AdamW.
        rng: draws the minibatches.
        on_progress: is called after every update.
    """

    def draw() -> list[LabelledPart | RehearsedPart]:
        batch = rng.choice(len(labels.frames), config.batch_size, p=labels.drawn)
        # Drawn here and not by the threads, whose order is their own.
        changes = Augmentation.draw(len(batch), rng) if config.augmentation else None
        starts = range(0, len(batch), config.part_size)
        slices = [slice(start, start + config.part_size) for start in starts]
        seeds = rng.integers(2**63, size=config.rehearsed_parts).tolist()
        return [
            *(
                LabelledPart(batch[rows], changes.part(rows) if changes else None)
                for rows in slices
            ),
            *(RehearsedPart(seed, config.part_size) for seed in seeds),
        ]

    def loss(part: LabelledPart | RehearsedPart) -> Float[Tensor, ""]:
        if isinstance(part, RehearsedPart):
            return part.loss(tower)
        return labels.loss(tower, part.rows, part.augmentation)

    train_on_frames(
        trainable_parameters(tower),
        loss,
        draw,
        config,
        updates,
        on_progress,
        stage="self-training",
        loss_name="pointing",
    )


def path_targets(
    encodings: Float32[Array, "frames sentences slots 2 3"],
    episode_lengths: Int64[Array, "episodes"],
    aspect: float,
    min_confidence: float,
) -> Float32[Array, "frames sentences slots 3"]:
    """Return u, v of each sentence's objects in every frame, and their weights in the loss.

    The weight is the mean probability of the object's highest peak over the episode; 0 where that
    is below `min_confidence` (an object that is never clear yields no pseudo-label), and in frames
    in which the filter that runs forwards and the one that runs backwards disagree.

    Args:
        encodings: from `two_peaks`, one episode's frames after another's.
        episode_lengths: frames an episode.
        aspect: width of the images over their height.
        min_confidence: in [0, 1].
    """
    starts = np.cumsum(episode_lengths) - episode_lengths
    targets: list[Float32[Array, "frames slots 3"]] = []
    for sentence in range(encodings.shape[1]):
        peaks = encodings[:, sentence]
        positions, believed = smoothed_paths(peaks, episode_lengths, aspect)
        sums = np.add.reduceat(peaks[:, :, 0, 2], starts, axis=0)
        confidence = sums / episode_lengths[:, None].astype(np.float32)
        confidence = np.where(confidence >= min_confidence, confidence, np.float32(0))
        weights = believed * np.repeat(confidence, episode_lengths, axis=0)
        targets.append(np.concatenate([positions, weights[..., None]], axis=2))
    return np.stack(targets, axis=1)


def draw_probabilities(
    targets: Float32[Array, "frames sentences slots 3"], aspect: float, occluded_weight: float
) -> Float64[Array, "frames"]:
    """Return with which probability each frame is drawn: more often where an object is occluded.

    Args:
        targets: from `path_targets`; a frame without any weight is not drawn.
        aspect: width of the images over their height.
        occluded_weight: how often a frame is drawn in which the effector covers an object that a
            sentence names, relative to one in which it covers none.
    """
    covered = np.zeros(len(targets))
    for sentence in range(targets.shape[1]):
        objects, effector = targets[:, sentence, :EFFECTOR], targets[:, sentence, EFFECTOR, :2]
        behind = behind_effector(objects[..., :2], effector, aspect) * (objects[..., 2] > 0)
        covered = np.maximum(covered, behind.max(axis=1))
    weights = 1 + (occluded_weight - 1) * covered.astype(np.float64)
    weights *= (targets[..., 2] > 0).any(axis=(1, 2))
    return weights / weights.sum()
