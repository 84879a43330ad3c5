"""Features of a data set's frames: encodings (encodings.py), tracked through each episode.

Encodings are kept on disk; tracking them takes no time worth keeping.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from nearer.algorithm.demonstrations import decision_rows
from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.vision import ComparingVisionEncoder, VisionEncoder, track_episodes
from nearer.datasets.caching.encodings import open_encodings, open_encodings_for_each
from nearer.datasets.lerobot.reader import Dataset


def open_features(
    dataset: Dataset,
    vision_encoder: VisionEncoder,
    episodes: Int64[Array, "episodes"],
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
    every: int = 1,
) -> Float32[Array, "frames features"]:
    """Return the features of every frame, tracked through its episode; see `open_encodings`."""
    encodings = open_encodings(dataset, vision_encoder, episodes, cache, on_progress, every)
    _, lengths = decision_rows(dataset.episode_lengths[episodes], every)
    return track_episodes(vision_encoder.track, encodings, lengths)


def stacked_rows(
    lengths: Int64[Array, "episodes"], num_stacked_frames: int
) -> Int64[Array, "frames stacked"]:
    """Return, for each frame, the rows of the encodings that are stacked as its features.

    The frame itself comes last; the first frame of an episode stands for those before it.

    Args:
        lengths: frames an episode.
        num_stacked_frames: encodings that make up a frame's features.
    """
    own = np.arange(int(lengths.sum()))
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.stack(
        [np.maximum(own - back, first) for back in range(num_stacked_frames)][::-1], axis=1
    )


def open_candidate_features(
    dataset: Dataset,
    vision_encoder: ComparingVisionEncoder,
    episodes: Int64[Array, "episodes"],
    candidates: Sequence[Sequence[str]],
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> Float32[Array, "episodes 2 candidates features"]:
    """Return the features of first and last frames, given each candidate instruction.

    The last frame is treated as if it were a first one, whatever its candidate: only the episode's
    own instruction was tracked through all frames, and that would give it away.

    Args:
        dataset: Whose frames.
        vision_encoder: Encodes the images.
        episodes: Rows of the episodes that are encoded.
        candidates: Instructions, the same number an episode.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        on_progress: Sees the progress of encoding.

    Raises:
        DatasetError: As `open_encodings` raises it.
    """
    starts = dataset.episode_starts[episodes]
    rows = np.stack([starts, starts + dataset.episode_lengths[episodes] - 1], axis=1).reshape(-1)
    of_frame = [of_episode for of_episode in candidates for _ in range(2)]
    encodings = open_encodings_for_each(dataset, vision_encoder, rows, of_frame, cache, on_progress)
    features = vision_encoder.track(None, encodings.reshape(-1, vision_encoder.encoding_width))
    return features.reshape(len(episodes), 2, len(candidates[0]), vision_encoder.width)
