"""Data and video files keep the sizes of info.json and end between episodes; appends are whole."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.reader import open_dataset, read_progress
from nearer.datasets.lerobot.schema import Feature, has_room
from nearer.datasets.lerobot.videos import EXACT_COLOURS
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames

MB = 1024**2
STATE = {"observation.state": Feature(dtype="float32", shape=(64,))}
IMAGE = Feature(dtype="image", shape=(16, 24, 3))
VIDEO = Feature(dtype="video", shape=(48, 64, 3), info=EXACT_COLOURS.info(48, 64, 5))
LENGTHS = (9, 5, 12, 3, 7, 11, 2, 8)


def create_with_limits(root: Path, features: dict[str, Feature], **limits: Any) -> DatasetWriter:
    """Return the writer of a new data set whose info.json has these entries."""
    DatasetWriter.create(root, features, fps=5)
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | limits))
    return DatasetWriter.resume(root, 0)


def episodes_of(features: dict[str, Feature], lengths: tuple[int, ...], seed: int = 0):
    random = np.random.default_rng(seed)
    return [
        EpisodeFrames(
            task=f"task {seed}",
            columns={
                key: random.integers(0, 256, (n, *feature.shape), np.uint8)
                if feature.is_camera
                else random.random((n, *feature.shape), np.float32)
                for key, feature in features.items()
            },
        )
        for n in lengths
    ]


def names(root: Path, pattern: str) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.glob(pattern))


def check_numbers(root: Path, episodes: list[EpisodeFrames]) -> None:
    dataset = open_dataset(root)
    written = np.concatenate([episode.columns["observation.state"] for episode in episodes])
    np.testing.assert_array_equal(dataset.columns["observation.state"], written)
    assert [dataset.task_of_episode(i) for i in range(len(episodes))] == [e.task for e in episodes]


def test_has_room_estimates_by_the_mean_frame():
    assert has_room(0, 0, 1000, 1)
    assert has_room(300, 3, 9, 901)
    assert not has_room(300, 3, 9, 900)


def test_data_files_of_many_episodes_stay_below_their_size(tmp_path):
    writer = create_with_limits(tmp_path, STATE, data_files_size_in_mb=0.2, chunks_size=3)
    episodes = episodes_of(STATE, (40,) * 100)
    writer.append(episodes[:55])
    writer.append(episodes[55:])
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("data/*/*"))]
    assert max(sizes) < 0.2 * MB + 8192  # the footer
    assert sorted(sizes)[2] > 0.7 * 0.2 * MB  # but for the last file of each append
    numbers = [(number // 3, number % 3) for number in range(len(sizes))]
    assert names(tmp_path, "data/*/*") == [
        f"data/chunk-{chunk:03d}/file-{file:03d}.parquet" for chunk, file in numbers
    ]
    check_numbers(tmp_path, episodes)
    dataset = open_dataset(tmp_path)
    per_file = np.unique(dataset.data_files, axis=0, return_counts=True)[1]
    assert len(per_file) == len(sizes)
    assert per_file.max() > 1


def test_data_file_of_a_large_episode_holds_it_alone(tmp_path):
    writer = create_with_limits(tmp_path, STATE, data_files_size_in_mb=0.0001)
    episodes = episodes_of(STATE, LENGTHS)
    writer.append(episodes)
    assert open_dataset(tmp_path).data_files[:, 1].tolist() == list(range(8))
    check_numbers(tmp_path, episodes)


def test_frames_of_several_image_files_are_read_from_each(tmp_path):
    features = {**STATE, "observation.images.wrist": IMAGE}
    writer = create_with_limits(tmp_path, features, data_files_size_in_mb=0.03)
    episodes = episodes_of(features, LENGTHS)
    writer.append(episodes[:6])
    writer.append(episodes[6:])
    assert len(names(tmp_path, "data/*/*")) > 3
    check_numbers(tmp_path, episodes)
    written = np.concatenate([episode.columns["observation.images.wrist"] for episode in episodes])
    order = np.random.default_rng(1).permutation(sum(LENGTHS))
    read = open_dataset(tmp_path).frames("observation.images.wrist", order)
    np.testing.assert_array_equal(read, written[order])


def test_video_files_of_each_camera_stay_below_their_size(tmp_path):
    features = {
        **STATE,
        "observation.images.top": VIDEO,
        "observation.images.still": VIDEO,
    }
    writer = create_with_limits(tmp_path, features, video_files_size_in_mb=0.15)
    episodes = episodes_of(features, (6, 4) * 10)
    greys = np.arange(100, dtype=np.uint8) * 2
    for episode, shade in zip(episodes, np.split(greys, np.cumsum((6, 4) * 10)[:-1]), strict=True):
        episode.columns["observation.images.still"][:] = shade[:, None, None, None]
    writer.append(episodes[:13])
    writer.append(episodes[13:])
    dataset = open_dataset(tmp_path)
    top, still = (dataset.videos[f"observation.images.{name}"] for name in ("top", "still"))
    sizes = [path.stat().st_size for path in tmp_path.glob("videos/*top/*/*")]
    assert len(sizes) >= 5
    assert max(sizes) < 0.15 * MB
    assert np.mean(sizes) > 0.07 * MB
    # The second append's files have one number in every folder.
    assert len(names(tmp_path, "videos/*still/*/*")) == 2
    assert still.files[13].tolist() == top.files[13].tolist() == dataset.data_files[13].tolist()
    starts = np.unique(top.files, axis=0, return_index=True)[1]
    assert top.first_frames[starts].tolist() == [0] * len(sizes)


def test_progress_of_an_append_of_many_files_is_read_back(tmp_path):
    writer = create_with_limits(tmp_path, STATE, data_files_size_in_mb=0.003)
    for seed in range(2):
        rewards = [{"reward": np.full(n, seed + n, np.float32)} for n in LENGTHS]
        writer.append(episodes_of(STATE, LENGTHS, seed), rewards)
    dataset = open_dataset(tmp_path)
    assert len(names(tmp_path, "data/*/*")) > 8
    assert len(names(tmp_path, "nearer_progress/*/*")) == 2
    progress = read_progress(dataset)
    assert progress["index"].tolist() == list(range(2 * sum(LENGTHS)))
    expected = [seed + n for seed in range(2) for n in LENGTHS for _ in range(n)]
    assert progress["reward"].tolist() == expected
    resumed = DatasetWriter.resume(tmp_path, len(LENGTHS))
    assert len(read_progress(open_dataset(tmp_path))["index"]) == sum(LENGTHS)
    resumed.append(episodes_of(STATE, LENGTHS, 5))
    check_numbers(tmp_path, [*episodes_of(STATE, LENGTHS, 0), *episodes_of(STATE, LENGTHS, 5)])


def test_append_killed_between_its_renames_loses_the_whole_append(tmp_path, monkeypatch):
    features = {**STATE, "observation.images.top": VIDEO}
    limits = {"data_files_size_in_mb": 0.003, "video_files_size_in_mb": 0.02}
    root = tmp_path / "set"
    writer = create_with_limits(root, features, **limits)
    first, second = (episodes_of(features, LENGTHS, seed) for seed in range(2))
    writer.append(first)
    copies: list[Path] = []

    def replace(source: Any, target: Any, rename: Any = os.replace) -> None:
        copies.append(Path(shutil.copytree(root, tmp_path / f"killed-{len(copies)}")))
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        writer.append(second)
    check_numbers(root, [*first, *second])
    assert len(copies) > 10
    expected = {name: (root / name).read_bytes() for name in names(root, "**/file-*")}
    for copy in copies[::3]:
        check_numbers(copy, first)
        DatasetWriter.resume(copy, len(first)).append(second)
        assert {name: (copy / name).read_bytes() for name in names(copy, "**/file-*")} == expected


def test_resume_between_two_files_of_one_append_is_refused(tmp_path):
    writer = create_with_limits(tmp_path, STATE, data_files_size_in_mb=0.0001)
    writer.append(episodes_of(STATE, LENGTHS))
    writer.append(episodes_of(STATE, (4,)))
    with pytest.raises(DatasetError, match=r"the end of an append .* one of \[0, 8, 9\], got 5"):
        DatasetWriter.resume(tmp_path, 5)


def test_read_info_without_sizes_takes_lerobots(tmp_path):
    create_with_limits(tmp_path, STATE)
    path = tmp_path / "meta/info.json"
    document = json.loads(path.read_text())
    del document["data_files_size_in_mb"], document["video_files_size_in_mb"]
    path.write_text(json.dumps(document))
    info = open_dataset(tmp_path).info
    assert (info.max_data_bytes, info.max_video_bytes) == (100 * MB, 200 * MB)


@pytest.mark.parametrize("size", [0, -1, "large", None, float("nan")])
def test_read_info_with_an_impossible_size_is_refused(tmp_path, size):
    with pytest.raises(DatasetError, match="must have the form of LeRobotDataset"):
        create_with_limits(tmp_path, STATE, video_files_size_in_mb=size)
