"""Images of other sizes: the model's own filter, or bilinear; refused without the flag."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nearer.core.errors import MessageError
from nearer.core.spaces import Camera, Spaces
from nearer.serving.client_format import ClientFormat
from nearer.serving.image_resizing import MAX_SIDE_PX, filters_of, resized_image
from nearer.serving.request import read_request
from serving_helpers import small_vla
from tiny_duals import make_dual, small_dual_encoder

FRONT = Camera("front", 24, 32)
SPACES = Spaces(agent_pos=1, environment_state=0, action=1, cameras=(FRONT,))


def smooth_image(height: int, width: int) -> Any:
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [rows * 200 / height, columns * 200 / width, (rows + columns) % 50]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "filter"),
    [
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("lanczos", Image.Resampling.LANCZOS),
    ],
)
@pytest.mark.parametrize("size", [(48, 80), (10, 12), (24, 40)])
def test_resized_image_equals_pillows(kind: str, filter: Any, size: tuple[int, int]) -> None:
    image = smooth_image(*size)
    expected = np.asarray(Image.fromarray(image).resize((32, 24), filter))
    resized = resized_image(image, FRONT, kind)
    assert resized.dtype == np.uint8
    assert np.abs(resized.astype(int) - expected.astype(int)).max() <= 2


def message_of(image: Any) -> dict[str, Any]:
    return {"observation.state": [0.0], "observation.images.front": image}


def test_read_request_other_sizes_are_resized_only_where_a_filter_says_how() -> None:
    image = smooth_image(48, 80)
    client = ClientFormat(filters={"front": "bicubic"})
    request = read_request(message_of(image), SPACES, (FRONT,), client)
    expected = resized_image(image, FRONT, "bicubic")
    assert np.array_equal(request.observation.images["front"][0], expected)
    with pytest.raises(MessageError, match=r"got uint8 of shape \(48, 80, 3\); .*with --resize"):
        read_request(message_of(image), SPACES, (FRONT,))


@pytest.mark.parametrize(
    ("image", "advice"),
    [
        (np.zeros((3, 24, 32), np.uint8), r"channels come first: send image\.transpose\(1, 2, 0\)"),
        (np.zeros((24, 32, 4), np.uint8), "convert it on the robot's side"),
        (np.zeros((24, 32), np.uint8), "convert it on the robot's side"),
        (np.zeros((48, 64, 3), np.float32), "convert it on the robot's side"),
        (np.zeros((0, 32, 3), np.uint8), "convert it on the robot's side"),
        (
            np.zeros((1, MAX_SIDE_PX + 1, 3), np.uint8),
            "sides that are resized have up to 8192 pixels",
        ),
    ],
)
def test_read_request_images_that_cannot_be_resized_are_refused(image: Any, advice: str) -> None:
    client = ClientFormat(filters={"front": "bilinear"})
    with pytest.raises(MessageError, match=advice):
        read_request(message_of(image), SPACES, (FRONT,), client)


def test_filters_of_a_model_are_those_of_its_preprocessing(tmp_path: Path) -> None:
    assert filters_of(small_vla(), small_vla().spaces.cameras) == {"front": "bilinear"}
    folder = make_dual(tmp_path / "dual", "clip")
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    for number, name in ((2, "bilinear"), (3, "bicubic")):
        processor["resample"] = number
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        model = small_dual_encoder(folder)
        cameras = model.spaces.cameras
        assert filters_of(model, cameras) == {camera.name: name for camera in cameras}
