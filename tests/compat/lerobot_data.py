"""Data sets between nearer and lerobot itself, which has another Python; run by compatibility.py.

    python lerobot_data.py FOLDER PYTHON_OF_LEROBOT

Prints one JSON line: whether what one writes and the other reads is the same.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import nearer
from nearer.configs import CollectConfig
from nearer.datasets.lerobot.reader import open_dataset

SIDE = Path(__file__).with_name("lerobot_side.py")


def main(folder: Path, lerobot: str) -> None:
    """Let each read what the other wrote."""
    folder.mkdir(parents=True)
    theirs, ours = folder / "theirs", folder / "ours"
    subprocess.run([lerobot, str(SIDE), "write", str(theirs)], check=True)
    nearer.collect(
        CollectConfig(env="nearer/TabletopBlock2Block-v0", episodes=3, num_envs=3, out=ours)
    )
    subprocess.run([lerobot, str(SIDE), "read", str(ours)], check=True)
    print(json.dumps({**_read_theirs(theirs), **_they_read(ours)}))


def _read_theirs(folder: Path) -> dict[str, object]:
    written, dataset = np.load(f"{folder}.npz"), open_dataset(folder)
    every = np.arange(dataset.info.total_frames)
    video = dataset.frames("observation.images.wrist", every).astype(int)
    return {
        "we_read": f"{len(dataset.episode_lengths)} episodes, {len(every)} frames",
        "numbers_equal": _equal(dataset.columns, written),
        "images_equal": np.array_equal(
            dataset.frames("observation.images.front", every), written["image"]
        ),
        "video_mean_levels_off": round(float(np.abs(video - written["image"]).mean()), 2),
    }


def _they_read(folder: Path) -> dict[str, object]:
    read, dataset = np.load(f"{folder}.npz"), open_dataset(folder)
    every = np.arange(dataset.info.total_frames)
    (camera,) = dataset.info.video_keys
    tasks = [dataset.tasks[index] for index in dataset.columns["task_index"]]
    off = np.abs(dataset.frames(camera, every).astype(int) - read["image"])
    return {
        "they_read": f"{len(dataset.episode_lengths)} episodes, {len(every)} frames",
        "their_numbers_equal": _equal(dataset.columns, read),
        "their_tasks_equal": read["task"].tolist() == tasks,
        "their_video_mean_levels_off": round(float(off.mean()), 2),
    }


def _equal(columns: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(
        np.array_equal(columns[key], other[name])
        for key, name in (("observation.state", "state"), ("action", "action"))
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
