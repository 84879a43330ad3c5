"""Cameras of a data set: which there are, under which keys, and how their images are stored."""

from collections.abc import Mapping, Sequence
from typing import Literal

from nearer.core.errors import DatasetError
from nearer.core.spaces import Camera
from nearer.datasets.lerobot.camera_names import IMAGES, camera_keys, unread_images
from nearer.datasets.lerobot.feature import Feature
from nearer.datasets.lerobot.reader import Dataset
from nearer.datasets.lerobot.videos import EXACT_COLOURS

ImageStorage = Literal["video", "image", "none"]
"""How images are stored: in mp4 files, as PNG in the data files, or not at all."""


def cameras_of(dataset: Dataset) -> tuple[Camera, ...]:
    """Return the colour cameras of a data set, by name."""
    features = dataset.info.features
    return tuple(
        Camera(name, *features[key].image_size)
        for name, key in sorted(camera_keys(dataset.info).items())
    )


def camera_key(dataset: Dataset, camera: str) -> str:
    """Return the feature that holds a camera's images.

    Raises:
        DatasetError: The data set has no such camera.
    """
    keys = camera_keys(dataset.info)
    if camera not in keys:
        raise DatasetError(
            f"{dataset.root} must have images of the camera {camera!r} as {IMAGES}{camera}, got "
            f"the cameras {sorted(keys)}; record it, or use a model that needs no such camera"
        )
    return keys[camera]


def check_has_camera(dataset: Dataset) -> None:
    """Raise DatasetError where a model with a vision encoder has nothing to see."""
    if not camera_keys(dataset.info):
        unread = unread_images(dataset.info)
        advice = unread or "use --model mlp, or record with a camera"
        raise DatasetError(
            f"{dataset.root} must have images of a camera for a model with a vision encoder, got "
            f"{sorted(dataset.info.features)}; {advice}"
        )


def camera_features(
    cameras: Sequence[Camera], storage: ImageStorage, fps: int
) -> Mapping[str, Feature]:
    """Return the features of cameras in a new data set."""
    if storage == "none":
        return {}
    features: dict[str, Feature] = {}
    for camera in cameras:
        info = EXACT_COLOURS.info(camera.height, camera.width, fps)
        features[IMAGES + camera.name] = Feature(
            dtype=storage,
            shape=(camera.height, camera.width, 3),
            names=["height", "width", "channels"],
            info=info if storage == "video" else None,
        )
    return features
