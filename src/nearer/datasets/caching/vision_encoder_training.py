"""A vision encoder trained on a data set's own frames: trained once, its weights kept on disk."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64

from nearer.algorithm.demonstrations import draw_candidates
from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.seeds import Purpose, generator
from nearer.core.vision import Clips, TrainableVisionEncoder
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
    """Train a vision encoder on these episodes' own frames, in place.

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

    def train(path: Path) -> None:
        rng = generator(Purpose.SFT_VISION_ENCODER, seed)
        clips = _clips(dataset, vision_encoder, episodes, rng, cache, on_progress)
        vision_encoder.learn(clips, updates, rng, on_progress)
        write_array(path, vision_encoder.weights())
        for camera in clips.images:  # 20 times the data set's size, and not needed again
            drop_frames(dataset, camera, cache, _decoded_rows(dataset, episodes))

    identity = f"{vision_encoder.learning_identity} {updates} {seed}"
    trained = CachedArray(
        name="vision-encoder-" + rows_hash(identity, episodes),
        shape=vision_encoder.weights().shape,
        dtype="float32",
        mode="c",
    )
    vision_encoder.take(trained.open(dataset, cache, train))


def _clips(
    dataset: Dataset,
    vision_encoder: TrainableVisionEncoder,
    episodes: Int64[Array, "episodes"],
    rng: np.random.Generator,
    cache: Path | None,
    on_progress: ProgressCallback,
) -> Clips:
    """Return the episodes as a vision encoder is trained on them."""
    decoded = _decoded_rows(dataset, episodes)
    own = [dataset.task_of_episode(int(row)) for row in episodes]
    others = min(vision_encoder.other_instructions, len(set(own)) - 1)
    instructions = draw_candidates(own, others, rng)
    rows, lengths = episode_rows(dataset, episodes), dataset.episode_lengths[episodes]
    of_frame = [each for each, n in zip(instructions, lengths, strict=True) for _ in range(n)]
    teacher = vision_encoder.teacher()
    return Clips(
        encodings=open_encodings_for_each(dataset, teacher, rows, of_frame, cache, on_progress),
        images={
            camera.name: open_frames(dataset, camera.name, cache, on_progress, decoded).images
            for camera in cameras_of(dataset)
        },
        rows=np.searchsorted(decoded, rows),
        episode_lengths=lengths,
        instructions=instructions,
    )


def _decoded_rows(dataset: Dataset, episodes: Int64[Array, "episodes"]) -> Int64[Array, "frames"]:
    """Return the rows of these episodes from first to last, as they are decoded fastest."""
    return np.sort(episode_rows(dataset, episodes))
