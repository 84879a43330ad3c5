"""A vision encoder trained on a data set's frames: trained once, its weights kept on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from nearer.algorithm.demonstrations import draw_candidates
from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.seeds import Purpose, generator
from nearer.core.vision import Clips, Decisions, TrainableVisionEncoder
from nearer.datasets.caching.arrays import CachedArray, write_array
from nearer.datasets.caching.encodings import episode_rows, open_encodings_for_each, rows_hash
from nearer.datasets.caching.frames import drop_frames, open_frames
from nearer.datasets.lerobot.cameras import cameras_of
from nearer.datasets.lerobot.reader import Dataset


def train_vision_encoder(
    dataset: Dataset,
    vision_encoder: TrainableVisionEncoder,
    episodes: Int64[Array, "episodes"],
    updates: int,
    seed: int,
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Let a vision encoder train itself on these episodes' own frames, in place.

    The trained weights are kept on disk as encodings are, so a resumed run encodes alike.

    Args:
        dataset: Whose frames.
        vision_encoder: Is trained.
        episodes: Rows of the episodes.
        updates: Gradient updates.
        seed: Of their minibatches.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        on_progress: Sees the progress of encoding, decoding and training.

    Raises:
        DatasetError: As `open_encodings` and `open_frames` raise it.
    """

    def train() -> None:
        rng = generator(Purpose.SFT_VISION_ENCODER, seed)
        own = [dataset.task_of_episode(int(row)) for row in episodes]
        others = min(vision_encoder.other_instructions, len(set(own)) - 1)
        clips = _clips(dataset, episodes, draw_candidates(own, others, rng), cache, on_progress)
        encodings = open_encodings_for_each(
            dataset,
            vision_encoder.teacher(),
            episode_rows(dataset, episodes),
            clips.instructions_of_frames(),
            cache,
            on_progress,
        )
        vision_encoder.learn(clips, encodings, updates, rng, on_progress)

    identity = f"{vision_encoder.learning_identity} {updates} {seed}"
    _train_once(dataset, vision_encoder, episodes, identity, train, cache)


def train_through_objectives(
    dataset: Dataset,
    vision_encoder: TrainableVisionEncoder,
    episodes: Int64[Array, "episodes"],
    decisions: Decisions,
    updates: int,
    seed: int,
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Train a vision encoder by behavioural cloning and steps-to-go prediction, in place.

    Args:
        dataset: Whose frames.
        vision_encoder: Is trained.
        episodes: Rows of the episodes.
        decisions: Of their frames.
        updates: Gradient updates.
        seed: Of their minibatches.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        on_progress: Sees the progress of decoding and training.

    Raises:
        DatasetError: As `open_frames` raises it.
    """

    def train() -> None:
        rng = generator(Purpose.SFT_OBJECTIVES, seed)
        own = [(dataset.task_of_episode(int(row)),) for row in episodes]
        clips = _clips(dataset, episodes, own, cache, on_progress)
        vision_encoder.learn_through_objectives(clips, decisions, updates, rng, on_progress)

    learned = f"{vision_encoder.learning_identity} {decisions.identity}"
    identity = f"objectives {learned} {updates} {seed}"
    _train_once(dataset, vision_encoder, episodes, identity, train, cache)


def _train_once(
    dataset: Dataset,
    vision_encoder: TrainableVisionEncoder,
    episodes: Int64[Array, "episodes"],
    identity: str,
    train: Callable[[], None],
    cache: Path | None,
) -> None:
    """Give a vision encoder the weights that training leads to, from the disk if they are there."""

    def make(path: Path) -> None:
        train()
        write_array(path, vision_encoder.weights())
        for camera in cameras_of(dataset):  # 20 times the data set's size, and not needed again
            drop_frames(dataset, camera.name, cache, _decoded_rows(dataset, episodes))

    trained = CachedArray(
        name="vision-encoder-" + rows_hash(identity + dataset.view, episodes),
        shape=vision_encoder.weights().shape,
        dtype="float32",
        mode="c",
    )
    vision_encoder.take(trained.open(dataset, cache, make))


def _clips(
    dataset: Dataset,
    episodes: Int64[Array, "episodes"],
    instructions: Sequence[Sequence[str]],
    cache: Path | None,
    on_progress: ProgressCallback,
) -> Clips:
    """Return the episodes as a vision encoder is trained on them."""
    decoded = _decoded_rows(dataset, episodes)
    return Clips(
        images={
            camera.name: open_frames(dataset, camera.name, cache, on_progress, decoded).images
            for camera in cameras_of(dataset)
        },
        rows=np.searchsorted(decoded, episode_rows(dataset, episodes)),
        episode_lengths=dataset.episode_lengths[episodes],
        instructions=instructions,
    )


def _decoded_rows(dataset: Dataset, episodes: Int64[Array, "episodes"]) -> Int64[Array, "frames"]:
    """Return the rows of these episodes from first to last, as they are decoded fastest."""
    return np.sort(episode_rows(dataset, episodes))
