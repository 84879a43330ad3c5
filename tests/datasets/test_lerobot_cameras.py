"""Cameras of a data set: their names, keys and sizes."""

from pathlib import Path

import pytest

from nearer.core.errors import DatasetError
from nearer.core.spaces import Camera
from nearer.datasets.lerobot.cameras import ImageStorage, camera_features, camera_key, cameras_of
from nearer.datasets.lerobot.reader import Dataset, open_dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.videos import EXACT_COLOURS
from nearer.datasets.lerobot.writer import DatasetWriter


def dataset_with(root: Path, **features: Feature) -> Dataset:
    """Return a data set without episodes; a key has _ in place of its dots."""
    action = Feature(dtype="float32", shape=(2,))
    named = {key.replace("_", "."): feature for key, feature in features.items()}
    DatasetWriter.create(root, {"action": action, **named}, fps=10)
    return open_dataset(root)


def image(height: int, width: int) -> Feature:
    return Feature(dtype="image", shape=(height, width, 3))


def test_cameras_of_a_data_set_are_sorted_by_name_with_height_and_width(tmp_path: Path) -> None:
    dataset = dataset_with(
        tmp_path, observation_images_wrist=image(4, 6), observation_images_top=image(8, 10)
    )
    assert cameras_of(dataset) == (Camera("top", 8, 10), Camera("wrist", 4, 6))
    assert camera_key(dataset, "wrist") == "observation.images.wrist"


def test_cameras_of_a_data_set_with_one_image_without_a_name_are_pixels(tmp_path: Path) -> None:
    dataset = dataset_with(tmp_path, observation_image=image(4, 6))
    assert cameras_of(dataset) == (Camera("pixels", 4, 6),)
    assert camera_key(dataset, "pixels") == "observation.image"


def test_cameras_of_a_depth_map_or_another_key_are_none(tmp_path: Path) -> None:
    depth = Feature(dtype="image", shape=(4, 6, 3), info={"is_depth_map": True})
    dataset = dataset_with(tmp_path, observation_images_depth=depth, preview=image(4, 6))
    assert "observation.images.depth" in dataset.info.features
    assert cameras_of(dataset) == ()


def test_camera_key_of_an_unknown_camera_is_refused(tmp_path: Path) -> None:
    dataset = dataset_with(tmp_path, observation_images_top=image(4, 6))
    with pytest.raises(DatasetError) as refused:
        camera_key(dataset, "side")
    assert str(refused.value) == (
        f"{tmp_path} must have images of the camera 'side' as observation.images.side, got the "
        "cameras ['top']; record it, or use a model that needs no such camera"
    )


@pytest.mark.parametrize("storage", ["image", "video"])
def test_camera_features_are_read_back_as_the_cameras(
    storage: ImageStorage, tmp_path: Path
) -> None:
    cameras = (Camera("top", 8, 10), Camera("wrist", 4, 6))
    features = camera_features(cameras, storage, fps=5)
    DatasetWriter.create(tmp_path, features, fps=5)
    assert cameras_of(open_dataset(tmp_path)) == cameras
    top = features["observation.images.top"]
    assert (top.dtype, top.shape) == (storage, (8, 10, 3))
    assert top.info == (EXACT_COLOURS.info(8, 10, 5) if storage == "video" else None)


def test_camera_features_that_are_not_stored_are_none() -> None:
    assert camera_features([Camera("top", 8, 10)], "none", fps=5) == {}
