"""Depth maps by any of their flags are no cameras, and images under other names are told."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from foreign_datasets import CAMERA, DATA, copy_sample, edit_feature, set_column
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.camera_names import camera_keys, unread_images
from nearer.datasets.lerobot.cameras import camera_key, cameras_of, check_has_camera
from nearer.datasets.lerobot.feature import Feature, is_deep_grey
from nearer.datasets.lerobot.images import decode_image
from nearer.datasets.lerobot.reader import open_dataset

DEPTH = (
    {"info": {"is_depth_map": True}},
    {"info": {"video.is_depth_map": True}},
    {"info": {"info.is_depth_map": True}},
    {"video_info": {"is_depth_map": True}},
    {"video_info": {"video.is_depth_map": True}},
    {"is_depth_map": True},
    {"video.is_depth_map": True},
    {"info": {"video.pix_fmt": "gray12le"}},
    {"video_info": {"video.pix_fmt": "gray16be"}},
)
COLOUR = (
    {},
    {"info": {"is_depth_map": False, "video.pix_fmt": "yuv420p"}},
    {"video_info": {"video.is_depth_map": False}},
    {"info": {"video.pix_fmt": "gray"}},
)


def feature(said: Mapping[str, object]) -> Feature:
    return Feature.from_json({"dtype": "video", "shape": [96, 128, 3], **said})


@pytest.mark.parametrize("said", DEPTH)
def test_a_feature_with_any_flag_of_depth_is_a_depth_map(said: Mapping[str, object]) -> None:
    assert feature(said).is_depth_map


@pytest.mark.parametrize("said", COLOUR)
def test_a_feature_without_a_flag_of_depth_is_none(said: Mapping[str, object]) -> None:
    assert not feature(said).is_depth_map


@pytest.mark.parametrize("said", DEPTH)
def test_a_data_set_whose_only_camera_is_depth_is_refused(
    said: Mapping[str, object], tmp_path: Path
) -> None:
    root = copy_sample("video", tmp_path)
    edit_feature(root, CAMERA, **{"info": None, **said})
    dataset = open_dataset(root)
    assert cameras_of(dataset) == ()
    remark = f"the depth maps {CAMERA} are not read: they hold no colours"
    assert unread_images(dataset.info) == remark
    with pytest.raises(DatasetError, match="must have images of a camera .*" + remark):
        check_has_camera(dataset)
    with pytest.raises(DatasetError, match="must name a colour camera"):
        dataset.frames(CAMERA, np.array([0]))


def test_unread_images_names_them_and_the_flag_that_helps(tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    assert unread_images(open_dataset(root).info) is None
    for key in ("wrist_image", "image"):
        edit_feature(root, key, dtype="video", shape=[96, 128, 3])
    dataset = open_dataset(root)
    assert camera_keys(dataset.info) == {"top": CAMERA}
    assert unread_images(dataset.info) == (
        "the images image, wrist_image are not read: a camera is observation.images.NAME; "
        "--rename image=observation.images.image makes it one"
    )


@pytest.mark.parametrize("kind", ["video", "image"])
def test_open_dataset_with_renames_has_the_same_frames_under_other_keys(
    kind: str, tmp_path: Path
) -> None:
    root = copy_sample(kind, tmp_path)
    plain = open_dataset(root)
    renames = {CAMERA: "observation.images.front", "action": "command", "task_index": "task_index"}
    dataset = open_dataset(root, renames)
    assert camera_key(dataset, "front") == "observation.images.front"
    rows = np.array([40, 3])
    expected = plain.frames(CAMERA, rows)
    np.testing.assert_array_equal(dataset.frames("observation.images.front", rows), expected)
    np.testing.assert_array_equal(dataset.columns["command"], plain.columns["action"])
    assert "action" not in dataset.columns
    assert plain.view == ""
    assert dataset.view not in ("", open_dataset(root, {"action": "order"}).view)


def test_open_dataset_with_two_names_swapped_has_them_swapped(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    plain = open_dataset(root)
    swapped = open_dataset(root, {"action": "observation.state", "observation.state": "action"})
    np.testing.assert_array_equal(swapped.columns["action"], plain.columns["observation.state"])


@pytest.mark.parametrize(
    ("renames", "message"),
    [
        ({"image": "observation.images.front"}, "must name features of .*, got 'image' where"),
        ({"action": "observation.state"}, "must give new names, got 'observation.state', which"),
        ({"timestamp": "time"}, "must leave 'timestamp' as it is"),
    ],
)
def test_open_dataset_with_renames_that_do_not_fit_is_refused(
    renames: Mapping[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="--rename " + message):
        open_dataset(copy_sample("image", tmp_path), renames)


def test_decode_image_of_16_bits_of_grey_is_refused(tmp_path: Path) -> None:
    encoder = VideoCodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt = 4, 6, "gray16be"
    encoder.time_base = Fraction(1, 1)
    depth = VideoFrame.from_ndarray(np.zeros((4, 6), np.uint16), format="gray16le")
    packets = encoder.encode(depth.reformat(format="gray16be"))
    encoded = b"".join(bytes(packet) for packet in packets)
    with pytest.raises(DatasetError, match="8 bits a colour, got gray16be, which is how depth"):
        decode_image(encoded, "frame 0")
    root = copy_sample("image", tmp_path)
    edit_feature(root, CAMERA, shape=[4, 6, 1])
    set_column(root / DATA, CAMERA, pa.array([encoded] * 48, pa.binary()))
    with pytest.raises(DatasetError, match="mark the feature with is_depth_map"):
        open_dataset(root).frames(CAMERA, np.array([0]))


def test_is_deep_grey_of_pixel_formats() -> None:
    deep = ("gray9be", "gray10le", "gray12le", "gray14be", "gray16le", "grayf32le")
    assert all(map(is_deep_grey, deep))
    assert not any(map(is_deep_grey, ("gray", "gray8", "ya8", "rgb24", "yuv420p", "rgb48be")))
