"""Which image belongs to which frame, where timestamps and counted frames differ."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from foreign_datasets import (
    CAMERA,
    DATA,
    EPISODES,
    SAMPLES,
    VIDEO,
    copy_sample,
    edit_feature,
    edit_info,
    set_column,
    without_episode,
)
from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot import timing
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.lerobot.videos import EXACT_COLOURS, encode_video

FROM = f"videos/{CAMERA}/from_timestamp"
STARTS_S = np.array([0.0, 1.2, 1.9, 3.9])


def timestamps() -> np.ndarray:
    return pq.read_table(SAMPLES / "video" / DATA)["timestamp"].to_numpy()


@pytest.mark.parametrize(
    ("starts_s", "jitter_s"),
    [
        (STARTS_S + 0.04, 0.0),
        (STARTS_S * 1.01, 0.0),
        (STARTS_S - 0.04, 0.0),
        (STARTS_S, 0.04),
        (STARTS_S + 0.04, -0.04),
    ],
)
def test_frames_of_timestamps_less_than_half_a_frame_off_are_the_counted_ones(
    starts_s: np.ndarray, jitter_s: float, tmp_path: Path
) -> None:
    expected = open_dataset(SAMPLES / "video").frames(CAMERA, np.arange(48))
    root = copy_sample("video", tmp_path)
    set_column(root / EPISODES, FROM, starts_s)
    signs = np.where(np.arange(48) % 2, 1, -1)
    set_column(root / DATA, "timestamp", (timestamps() + jitter_s * signs).astype(np.float32))
    np.testing.assert_array_equal(open_dataset(root).frames(CAMERA, np.arange(48)), expected)


@pytest.mark.parametrize(
    ("starts_s", "episode", "seen"),
    [
        ([0.0, 1.2, 1.9, 4.0], 3, "4.000"),
        ([0.0, 1.26, 2.02, 4.08], 1, "1.260"),
        (list(STARTS_S * 1000), 1, "1200.000"),
        ([0.0, 1.2, np.nan, 3.9], 2, "nan"),
        ([0.0, 1.2, np.inf, 3.9], 2, "inf"),
        ([-0.1, 1.2, 1.9, 3.9], 0, "-0.100"),
    ],
)
def test_open_dataset_of_a_from_timestamp_that_drifts_names_episode_and_camera(
    starts_s: list[float], episode: int, seen: str, tmp_path: Path
) -> None:
    root = copy_sample("video", tmp_path)
    set_column(root / EPISODES, FROM, np.array(starts_s))
    with pytest.raises(DatasetError) as refused:
        open_dataset(root)
    assert f"episode {episode} of {root} must start at " in str(refused.value)
    assert f"of its video of {CAMERA}" in str(refused.value)
    assert f"got from_timestamp {seen} s" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "frame", "episode", "seen"),
    [
        (lambda times: times * 1000, 1, 0, "100.000"),
        (lambda times: times * 1.11, 5, 0, "0.555"),
        (lambda times: np.where(np.arange(48) == 20, np.nan, times), 1, 2, "nan"),
        (lambda times: np.where(np.arange(48) == 15, times + 0.06, times), 3, 1, "0.360"),
        (lambda times: times + 0.1, 0, 0, "0.100"),
    ],
)
def test_open_dataset_of_strange_timestamps_names_frame_episode_and_camera(
    change, frame: int, episode: int, seen: str, tmp_path: Path
) -> None:
    root = copy_sample("video", tmp_path)
    set_column(root / DATA, "timestamp", change(timestamps()).astype(np.float32))
    message = (
        rf"frame {frame} of episode {episode} of .* must have the timestamp "
        rf"{frame / 10:.3f} s.*got {seen} s: which image of {CAMERA}"
    )
    with pytest.raises(DatasetError, match=message):
        open_dataset(root)


def test_open_dataset_of_strange_timestamps_and_images_by_the_row_reads_them(
    tmp_path: Path,
) -> None:
    root = copy_sample("image", tmp_path)
    set_column(root / DATA, "timestamp", np.full(48, np.nan, np.float32))
    expected = open_dataset(SAMPLES / "image").frames(CAMERA, np.arange(48))
    np.testing.assert_array_equal(open_dataset(root).frames(CAMERA, np.arange(48)), expected)


def test_open_dataset_of_a_deleted_episode_finds_the_images_behind_its_own(tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    expected = open_dataset(root).frames(CAMERA, np.arange(48))
    without_episode(root, 1)
    dataset = open_dataset(root)
    kept = np.r_[0:12, 19:48]
    assert dataset.videos[CAMERA].first_frames.tolist() == [0, 19, 39]
    np.testing.assert_array_equal(dataset.frames(CAMERA, np.arange(41)), expected[kept])


def test_open_dataset_of_a_deleted_episode_and_an_overlap_is_refused(tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    without_episode(root, 1)
    set_column(root / EPISODES, FROM, np.array([0.0, 1.0, 3.0]))
    with pytest.raises(DatasetError, match=r"episode 2 .* must start at 1\.200 s"):
        open_dataset(root)


def test_open_dataset_of_an_image_that_is_no_camera_needs_no_times(tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    edit_feature(root, "wrist_image", dtype="video", shape=[96, 128, 3], names=None)
    dataset = open_dataset(root)
    assert list(dataset.videos) == [CAMERA]
    with pytest.raises(DatasetError, match="must say where the videos of wrist_image are"):
        dataset.frames("wrist_image", np.array([0]))


@pytest.mark.parametrize(
    "places",
    [
        np.array([0, 0, 0, -1]),
        np.array([0.0, 0.0, 0.0, np.nan]),
        np.array([0, 0, 0, 2**64 - 1], np.uint64),
    ],
)
def test_open_dataset_of_a_file_number_that_is_none_is_refused(
    places: Array, tmp_path: Path
) -> None:
    root = copy_sample("video", tmp_path)
    set_column(root / EPISODES, "data/file_index", places)
    with pytest.raises(DatasetError, match=r"whole numbers of 0 or more as data/chunk_index"):
        open_dataset(root)


@pytest.mark.parametrize("video_fps", [5, 20])
def test_frames_of_a_video_of_another_rate_are_refused(video_fps: int, tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    images = np.zeros((100, 96, 128, 3), np.uint8)
    with (root / VIDEO).open("wb") as handle:
        encode_video(handle, [images], video_fps, EXACT_COLOURS)
    dataset = open_dataset(root)
    with pytest.raises(DatasetError, match=r"3 frames from|must have a frame at 0\.100 s"):
        dataset.frames(CAMERA, np.arange(12))


def test_frames_at_29_97_fps_are_the_counted_ones(tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    images = np.repeat(np.arange(48, dtype=np.uint8) * 5, 96 * 128 * 3).reshape(48, 96, 128, 3)
    with (root / VIDEO).open("wb") as handle:
        encode_video(handle, [images], 29.97, EXACT_COLOURS)
    edit_info(root, fps=29.97)
    set_column(root / DATA, "timestamp", (timestamps() * 10 / 29.97).astype(np.float32))
    set_column(root / EPISODES, FROM, STARTS_S * 10 / 29.97)
    dataset = open_dataset(root)
    assert dataset.info.fps == 29.97
    shown = dataset.frames(CAMERA, np.arange(48)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(shown, np.arange(48) * 5, atol=2)


def test_tolerance_is_half_a_frame() -> None:
    assert timing.TOLERANCE_FRAMES == 0.5
