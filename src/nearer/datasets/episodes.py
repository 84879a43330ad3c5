"""Episodes as the frames of a LeRobotDataset: which column holds what."""

from pathlib import Path

import numpy as np

from nearer.core.episode import Episode
from nearer.core.spaces import Spaces
from nearer.datasets.lerobot.cameras import IMAGES, ImageStorage, camera_features, cameras_of
from nearer.datasets.lerobot.checks import check_trainable
from nearer.datasets.lerobot.feature import (
    ACTION,
    AGENT_POS,
    ENVIRONMENT_STATE,
    FEATURES,
    REWARD_FEATURES,
    Feature,
)
from nearer.datasets.lerobot.reader import Dataset
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames


def create_dataset(
    root: Path,
    spaces: Spaces,
    fps: int,
    robot_type: str,
    features: int = 0,
    images: ImageStorage = "video",
    reward_features: int = 0,
) -> DatasetWriter:
    """Start a data set for episodes of these sizes.

    Args:
        root: a new folder.
        spaces: sizes of observations and actions.
        fps: control rate, Hz.
        robot_type: what the data set says of the robot.
        features: numbers a frame that the policy's vision encoder returns.
        images: how the cameras' images are stored; with "none" they are not.
        reward_features: numbers a frame that the reward model's vision encoder returns, where it
            has one of its own.
    """
    widths = {
        AGENT_POS: spaces.agent_pos,
        ENVIRONMENT_STATE: spaces.environment_state,
        FEATURES: features,
        REWARD_FEATURES: reward_features,
        ACTION: spaces.action,
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
        ACTION: np.concatenate([episode.actions, episode.actions[-1:]]),
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
        action=_width(dataset, ACTION),
        cameras=cameras_of(dataset),
        # A camera of 29.97 frames a second films a robot that is commanded at 30 Hz.
        control_hz=max(1, round(dataset.info.fps)),
    )


def _width(dataset: Dataset, key: str) -> int:
    return dataset.columns[key].shape[1] if key in dataset.columns else 0
