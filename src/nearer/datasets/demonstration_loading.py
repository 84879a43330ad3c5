"""A LeRobotDataset as the demonstrations that Stage 1 learns from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nearer.algorithm.demonstrations import Demonstrations, chunked
from nearer.core.action_chunks import PLAIN, Chunking
from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.errors import DatasetError
from nearer.core.renames import parse_renames
from nearer.core.vision import StackingVisionEncoder, VisionEncoder
from nearer.datasets.caching.encodings import episode_rows, open_encodings
from nearer.datasets.caching.features import open_features, stacked_rows
from nearer.datasets.completion import cut_after_completion, still_tails
from nearer.datasets.episodes import AGENT_POS, ENVIRONMENT_STATE, dataset_spaces
from nearer.datasets.lerobot.camera_names import unread_images
from nearer.datasets.lerobot.checks import check_trainable
from nearer.datasets.lerobot.reader import Dataset, open_dataset, resolve_dataset


def open_demonstrations(
    path_or_hub_id: str,
    revision: str | None = None,
    renames: Sequence[str] = (),
    completion_cutoff: int | None = None,
) -> Dataset:
    """Return a data set as a run reads it, downloaded first if it is on the hub.

    Args:
        path_or_hub_id: an existing folder, else a hub id "user/name".
        revision: branch, tag or commit on the hub; None for the default branch.
        renames: features to read under other names, KEY=NEW each.
        completion_cutoff: steps that an episode keeps after its last movement; None: all.

    Raises:
        DatasetError: there is none, or it cannot be read or trained on.
        ConfigError: renames that are none.
    """
    root = resolve_dataset(path_or_hub_id, revision)
    dataset = open_dataset(root, parse_renames(renames))
    if completion_cutoff is None:
        return dataset
    check_trainable(dataset)
    return cut_after_completion(dataset, completion_cutoff)


def remarks_on(dataset: Dataset) -> list[str]:
    """Return what a user should know of a data set before training on it, in sentences."""
    return [remark for remark in (unread_images(dataset.info), still_tails(dataset)) if remark]


def load_demonstrations(
    dataset: Dataset,
    vision_encoder: VisionEncoder | None = None,
    episodes: Int64[Array, "episodes"] | None = None,
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
    chunking: Chunking = PLAIN,
) -> Demonstrations:
    """Return a data set's episodes, their images encoded by a model's vision encoder.

    Args:
        dataset: what to learn from.
        vision_encoder: the model's; None for a model that reads no images.
        episodes: rows of the episodes to load, in this order; None: all of them.
        cache: folder of decoded frames and encodings; None: the user's cache folder.
        on_progress: sees the progress of decoding and encoding.
        chunking: what a decision of the model covers; with its `decision_frames`, the frames alone
            on which it decides are loaded, and images of the others are not encoded.

    Raises:
        DatasetError: the data set cannot be trained on; says why.
    """
    if episodes is None:
        episodes = np.arange(len(dataset.episode_lengths))
    if vision_encoder is None and not {AGENT_POS, ENVIRONMENT_STATE} & dataset.columns.keys():
        raise DatasetError(
            f"{dataset.root} must have {AGENT_POS} or {ENVIRONMENT_STATE} for --model mlp, got "
            f"{sorted(dataset.info.features)}; choose a model that reads images"
        )
    data = chunked(load_without_images(dataset, episodes), chunking)
    every = chunking.chunk if chunking.decision_frames else 1
    if every > 1:
        data = data.decisions(every)
    if vision_encoder is None:
        return data
    stacked = None
    if isinstance(vision_encoder, StackingVisionEncoder):
        features = open_encodings(dataset, vision_encoder, episodes, cache, on_progress, every)
        rows = stacked_rows(data.episode_lengths, vision_encoder.num_stacked_frames)
        stacked = torch.from_numpy(rows)
    else:
        features = open_features(dataset, vision_encoder, episodes, cache, on_progress, every)
    return replace(data, features=torch.from_numpy(features), stacked_rows=stacked)


def load_without_images(dataset: Dataset, episodes: Int64[Array, "episodes"]) -> Demonstrations:
    """Return episodes' states, actions, steps-to-go and instructions; no features.

    Args:
        dataset: what to learn from.
        episodes: rows of the episodes to load, in this order.
    """
    rows, lengths = episode_rows(dataset, episodes), dataset.episode_lengths[episodes]
    # Control steps from each frame to the last one of its episode: t' - t.
    left = np.repeat(np.cumsum(lengths) - 1, lengths) - np.arange(len(rows))
    return Demonstrations(
        state=_states(dataset, rows),
        features=torch.zeros(len(rows), 0),
        actions=torch.from_numpy(np.array(dataset.columns["action"][rows], dtype=np.float32)),
        steps_to_go=torch.from_numpy(left),
        episode_lengths=lengths,
        instructions=tuple(dataset.task_of_episode(int(row)) for row in episodes),
        spaces=dataset_spaces(dataset),
    )


def _states(dataset: Dataset, rows: Int64[Array, "frames"]) -> Float[Tensor, "frames state"]:
    """Return proprioception and environment state side by side."""
    none = np.zeros((dataset.info.total_frames, 0), dtype=np.float32)
    parts = [dataset.columns.get(key, none)[rows] for key in (AGENT_POS, ENVIRONMENT_STATE)]
    return torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32))
