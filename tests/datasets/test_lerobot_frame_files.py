"""Which files the frames of an append are in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nearer.core.arrays import Array
from nearer.datasets.lerobot.columns import EpisodeFrames, Rows, frame_columns
from nearer.datasets.lerobot.frame_files import stage_frames
from nearer.datasets.lerobot.schema import DatasetInfo, Feature, new_info
from nearer.datasets.lerobot.videos import LEROBOT_ENCODING
from nearer.runs.files import StagedFiles

NUMBERS = new_info({"action": Feature(dtype="float32", shape=(64,))}, fps=10, robot_type=None)
CAMERA = "observation.images.top"


def staged(
    root: Path, info: DatasetInfo, first_file: int, episodes: list[EpisodeFrames]
) -> dict[str, Array]:
    """Write the frames, and return the number of each episode's file by folder."""
    lengths = np.array([len(episode.columns["action"]) for episode in episodes])
    rows = Rows(first_episode=0, first_frame=0, lengths=lengths)
    tasks = np.zeros(len(episodes), np.int64)
    columns = frame_columns(info.features, episodes, rows, tasks, info.fps)
    with StagedFiles() as files:
        numbers = stage_frames(files, root, info, first_file, episodes, columns, lengths)
        files.commit()
    return numbers


def noise(num_frames: int, **images: Array) -> EpisodeFrames:
    """Return an episode of numbers that do not compress."""
    action = np.random.default_rng(num_frames).random((num_frames, 64), np.float32)
    return EpisodeFrames(task="push", columns={"action": action, **images})


def written(root: Path) -> dict[str, int]:
    """Return the rows of each data file."""
    return {
        str(path.relative_to(root)): pq.read_metadata(path).num_rows
        for path in sorted(root.rglob("*.parquet"))
    }


def test_stage_frames_with_room_for_all_writes_one_file(tmp_path: Path) -> None:
    numbers = staged(tmp_path, NUMBERS, 3, [noise(4), noise(2), noise(5)])
    assert {folder: files.tolist() for folder, files in numbers.items()} == {"data": [3, 3, 3]}
    assert written(tmp_path) == {"data/chunk-000/file-003.parquet": 11}


def test_stage_frames_without_room_goes_on_in_the_next_file_and_chunk(tmp_path: Path) -> None:
    """An episode takes about 30 kB, a file may have 40."""
    small = replace(NUMBERS, data_files_size_mb=40 / 1024, chunks_size=2)
    numbers = staged(tmp_path, small, 1, [noise(100), noise(101), noise(102)])
    assert numbers["data"].tolist() == [1, 2, 3]
    assert written(tmp_path) == {
        "data/chunk-000/file-001.parquet": 100,
        "data/chunk-001/file-000.parquet": 101,
        "data/chunk-001/file-001.parquet": 102,
    }


def test_stage_frames_of_videos_gives_every_camera_a_file(tmp_path: Path) -> None:
    encoding = LEROBOT_ENCODING.info(64, 64, 10)
    video = Feature(dtype="video", shape=(64, 64, 3), info=encoding)
    info = new_info({"action": Feature(dtype="float32", shape=(64,)), CAMERA: video}, 10, None)
    episodes = [noise(n, **{CAMERA: np.zeros((n, 64, 64, 3), np.uint8)}) for n in (2, 3)]
    numbers = staged(tmp_path, info, 0, episodes)
    assert {folder: files.tolist() for folder, files in numbers.items()} == {
        "data": [0, 0],
        f"videos/{CAMERA}": [0, 0],
    }
    assert (tmp_path / f"videos/{CAMERA}/chunk-000/file-000.mp4").stat().st_size > 0
