"""perception.json and its contact sheet: read as written, damage is a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearer.core.errors import ConfigError
from nearer.evaluation.perception_document import (
    CONTACT_SHEET,
    PERCEPTION,
    read_frames,
    read_perception,
    remove_perception,
    write_perception,
)
from perception_values import HEIGHT, frame_images, perception_of


@pytest.mark.parametrize("count", [1, 3, 5])
def test_read_perception_is_what_was_written(count: int, tmp_path: Path) -> None:
    written, images = perception_of(count), frame_images(count)
    write_perception(tmp_path, written, images)
    assert read_perception(tmp_path) == written
    assert np.array_equal(np.stack(read_frames(tmp_path, written)), np.stack(images))


def test_read_perception_where_nothing_was_recorded_is_none(tmp_path: Path) -> None:
    assert read_perception(tmp_path) is None


def test_read_perception_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    write_perception(tmp_path, perception_of(1), frame_images(1))
    path = tmp_path / PERCEPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 1}))
    with pytest.raises(ConfigError, match=r"perception.json must be .* with more absent"):
        read_perception(tmp_path)


def test_read_frames_without_the_sheet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"perception.png must be an image, got: .*; evaluate"):
        read_frames(tmp_path, perception_of(1))


def test_read_frames_of_a_sheet_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(tmp_path / CONTACT_SHEET)
    with pytest.raises(ConfigError, match=rf"must be 48 x {HEIGHT} pixels, .*, got 5 x 4; eval"):
        read_frames(tmp_path, perception_of(2))


def test_remove_perception_leaves_neither_file_and_may_be_repeated(tmp_path: Path) -> None:
    write_perception(tmp_path, perception_of(1), frame_images(1))
    remove_perception(tmp_path)
    remove_perception(tmp_path)
    assert list(tmp_path.iterdir()) == []
