"""Episodes as a LeRobotDataset, and a LeRobotDataset as the demonstrations that Stage 1 reads."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nearer.algorithm.demonstrations import Demonstrations
from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.episode import Episode
from nearer.core.errors import DatasetError
from nearer.core.spaces import Spaces
from nearer.core.vision import StackingVisionEncoder, VisionEncoder
from nearer.datasets.caching.features import (
    episode_rows,
    open_encodings,
    open_features,
    stacked_rows,
)
from nearer.datasets.lerobot.cameras import IMAGES, Kept, camera_features, cameras_of
from nearer.datasets.lerobot.checks import check_trainable
from nearer.datasets.lerobot.reader import Dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames

AGENT_POS = "observation.state"
ENVIRONMENT_STATE = "observation.environment_state"
FEATURES = "observation.features"
REWARD_FEATURES = "observation.reward_features"


def create_dataset(
    root: Path,
    spaces: Spaces,
    fps: int,
    robot_type: str,
    features: int = 0,
    images: Kept = "video",
    reward_features: int = 0,
) -> DatasetWriter:
    """Start a data set for episodes of these sizes.

    Args:
        root: a new folder.
        spaces: sizes of observations and actions.
        fps: control rate, Hz.
        robot_type: what the data set says of the robot.
        features: numbers a frame that a model's sight makes of its images.
        images: how the cameras' images are kept; with "none" they are not.
        reward_features: numbers a frame that the reward model's sight makes of its images, where
            it has another one.
    """
    widths = {
        AGENT_POS: spaces.agent_pos,
        ENVIRONMENT_STATE: spaces.environment_state,
        FEATURES: features,
        REWARD_FEATURES: reward_features,
        "action": spaces.action,
    }
    numbers = {
        key: Feature(dtype="float32", shape=(width,)) for key, width in widths.items() if width
    }
    done = {"next.done": Feature(dtype="bool", shape=(1,))}
    cameras = camera_features(spaces.cameras, images, fps)
    return DatasetWriter.create(root, {**numbers, **done, **cameras}, fps, robot_type)


def episode_frames(episode: Episode, *, with_images: bool = True) -> EpisodeFrames:
    """Return an episode as frames: one a control step, and one for the final observation.

    The format wants an action in every frame; the final one repeats the last action and is never
    trained on. `next.done` is true where the action led to the final observation, and after it.
    """
    last_two = np.arange(episode.num_steps + 1) >= episode.num_steps - 1
    columns = {
        AGENT_POS: episode.observations.agent_pos,
        ENVIRONMENT_STATE: episode.observations.environment_state,
        FEATURES: episode.observations.features,
        REWARD_FEATURES: episode.observations.reward_features,
        "action": np.concatenate([episode.actions, episode.actions[-1:]]),
        "next.done": last_two[:, None],
    }
    images = {
        IMAGES + camera: image
        for camera, image in episode.observations.observation.images.items()
        if with_images
    }
    numbers = {key: values for key, values in columns.items() if values.shape[1]}
    return EpisodeFrames(task=episode.instruction, columns={**numbers, **images})


def dataset_spaces(dataset: Dataset) -> Spaces:
    """Return the sizes of a data set's observations and actions.

    Raises:
        DatasetError: the data set cannot be trained on; says why.
    """
    check_trainable(dataset)
    return Spaces(
        agent_pos=_width(dataset, AGENT_POS),
        environment_state=_width(dataset, ENVIRONMENT_STATE),
        action=_width(dataset, "action"),
        cameras=cameras_of(dataset),
        control_hz=int(dataset.info.fps),
    )


def load_demonstrations(
    dataset: Dataset,
    vision_encoder: VisionEncoder | None = None,
    episodes: Int64[Array, "episodes"] | None = None,
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> Demonstrations:
    """Return a data set as Stage 1 reads it, its images looked at by a model's sight.

    Args:
        dataset: what to learn from.
        vision_encoder: the model's; None for a model that sees no images.
        episodes: rows of the episodes to read, in this order; None: all of them.
        cache: folder of decoded frames and features; None: the user's cache folder.
        on_progress: sees the progress of decoding and looking.

    Raises:
        DatasetError: the data set cannot be trained on; says why.
    """
    chosen = np.arange(len(dataset.episode_lengths)) if episodes is None else episodes
    rows, lengths = episode_rows(dataset, chosen), dataset.episode_lengths[chosen]
    features, shown = np.zeros((len(rows), 0), dtype=np.float32), None
    if isinstance(vision_encoder, StackingVisionEncoder):
        features = open_encodings(dataset, vision_encoder, chosen, cache, on_progress)
        shown = torch.from_numpy(stacked_rows(lengths, vision_encoder.num_stacked_frames))
    elif vision_encoder is not None:
        features = open_features(dataset, vision_encoder, chosen, cache, on_progress)
    left = np.repeat(np.cumsum(lengths) - 1, lengths) - np.arange(len(rows))
    return Demonstrations(
        state=_states(dataset, rows, needed=vision_encoder is None),
        features=torch.from_numpy(features),
        shown=shown,
        actions=torch.from_numpy(np.array(dataset.columns["action"][rows], dtype=np.float32)),
        steps_to_go=torch.from_numpy(left),
        episode_lengths=lengths,
        instructions=tuple(dataset.task_of_episode(int(row)) for row in chosen),
        spaces=dataset_spaces(dataset),
    )


def _states(
    dataset: Dataset, rows: Int64[Array, "frames"], *, needed: bool
) -> Float[Tensor, "frames state"]:
    """Return proprioception and environment state side by side."""
    if needed and not {AGENT_POS, ENVIRONMENT_STATE} & dataset.columns.keys():
        raise DatasetError(
            f"{dataset.root} must have {AGENT_POS} or {ENVIRONMENT_STATE} for --model mlp, got "
            f"{sorted(dataset.info.features)}; choose a model that sees images"
        )
    none = np.zeros((dataset.info.total_frames, 0), dtype=np.float32)
    parts = [dataset.columns.get(key, none)[rows] for key in (AGENT_POS, ENVIRONMENT_STATE)]
    return torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32))


def _width(dataset: Dataset, key: str) -> int:
    return dataset.columns[key].shape[1] if key in dataset.columns else 0
