"""LeRobotDataset v2.0 and v2.1, read as they are."""

import json
from pathlib import Path

import numpy as np
import pytest

from foreign_datasets import CAMERA, SAMPLES, as_version_2, copy_sample, edit_info
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.identity import contents_hash, dataset_identity
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.lerobot.version_2 import EPISODES_LIST, TASKS_LIST, read_tasks_list
from nearer.datasets.lerobot.videos import EXACT_COLOURS, encode_video
from nearer.datasets.lerobot.writer import DatasetWriter

WHOLE = open_dataset(SAMPLES / "image")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return as_version_2(copy_sample("image", tmp_path))


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_open_dataset_of_version_2_has_the_numbers_of_version_3(
    version: str, tmp_path: Path
) -> None:
    dataset = open_dataset(as_version_2(copy_sample("image", tmp_path), version))
    assert dataset.columns.keys() == WHOLE.columns.keys()
    for key, values in WHOLE.columns.items():
        np.testing.assert_array_equal(dataset.columns[key], values)
    assert dataset.tasks == WHOLE.tasks
    assert dataset.episode_lengths.tolist() == [12, 7, 20, 9]
    rows = np.array([40, 0, 13, 47])
    np.testing.assert_array_equal(dataset.frames(CAMERA, rows), WHOLE.frames(CAMERA, rows))


def test_frames_of_version_2s_videos_are_its_own(tmp_path: Path) -> None:
    root = as_version_2(copy_sample("video", tmp_path))
    for episode, length in enumerate([12, 7, 20, 9]):
        path = root / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        levels = (50 * episode + np.arange(length)).astype(np.uint8)
        images = np.repeat(levels, 96 * 128 * 3).reshape(length, 96, 128, 3)
        with path.open("wb") as handle:
            encode_video(handle, [images], 10, EXACT_COLOURS)
    shown = open_dataset(root).frames(CAMERA, np.array([0, 11, 12, 47, 39]))
    np.testing.assert_allclose(shown.mean(axis=(1, 2, 3)), [0, 11, 50, 158, 150], atol=2)


def test_hashes_of_version_2_change_with_its_files(old: Path) -> None:
    dataset = open_dataset(old)
    before = dataset_identity(dataset), contents_hash(dataset)
    path = old / "data/chunk-000/episode_000001.parquet"
    path.write_bytes(path.read_bytes() + b"\0")
    after = dataset_identity(dataset), contents_hash(dataset)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_open_dataset_of_version_2_with_a_gap_has_the_other_episodes(old: Path) -> None:
    lines = (old / EPISODES_LIST).read_text().splitlines(keepends=True)
    (old / EPISODES_LIST).write_text("".join(lines[:1] + lines[2:]))
    edit_info(old, total_episodes=3, total_frames=41)
    dataset = open_dataset(old)
    assert dataset.episode_numbers.tolist() == [0, 2, 3]
    frames = dataset.frames(CAMERA, np.array([12]))
    np.testing.assert_array_equal(frames, WHOLE.frames(CAMERA, np.array([19])))


def test_resume_of_version_2_is_refused(old: Path) -> None:
    with pytest.raises(DatasetError, match=r"LeRobotDataset v3\.0 to append to, got v2\.1"):
        DatasetWriter.resume(old, 4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (EPISODES_LIST, None, "must exist, got no such file"),
        (TASKS_LIST, None, "must exist, got no such file"),
        (EPISODES_LIST, "", "must list 4 episodes, as meta/info.json says, got 0"),
        (EPISODES_LIST, "{", "got in line 1: "),
        (EPISODES_LIST, "[1]\n", "got in line 1: no JSON object"),
        (EPISODES_LIST, '{"episode_index": 0}\n', "got in line 1: no key 'length'"),
        (EPISODES_LIST, '{"episode_index": 0, "length": -1}\n', "length -1, not a whole number"),
        (EPISODES_LIST, '{"episode_index": 0, "length": 1e999}\n', "length inf, not a whole"),
        (TASKS_LIST, '{"task_index": "a", "task": "b"}\n', "task_index 'a', not a whole number"),
        (TASKS_LIST, '{"task_index": 0, "task": 5}\n', "as meta/info.json says, got none for"),
        (TASKS_LIST, "\xff", "JSON object a line"),
    ],
)
def test_open_dataset_of_a_damaged_list_is_refused(
    name: str, text: str | None, message: str, old: Path
) -> None:
    (old / name).unlink()
    if text is not None:
        (old / name).write_text(text, encoding="latin-1")
    with pytest.raises(DatasetError, match=message) as refused:
        open_dataset(old)
    assert str(old / name) in str(refused.value)


def test_read_tasks_list_skips_empty_lines(old: Path) -> None:
    lines = [json.dumps({"task_index": index, "task": f"task {index}"}) for index in (1, 0)]
    (old / TASKS_LIST).write_text("\n\n".join(lines) + "\n\n")
    assert read_tasks_list(old) == {0: "task 0", 1: "task 1"}
