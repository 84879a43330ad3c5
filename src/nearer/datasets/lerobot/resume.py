"""What is kept of a data set when writing is resumed: episodes, tasks, statistics, files.

`table` is always the episodes table with the columns that `resume_columns` names; `kept` is its
first rows, the episodes that stay.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot import parquet
from nearer.datasets.lerobot.episodes_table import EPISODES_FOLDER, numbered_files, read_tasks
from nearer.datasets.lerobot.schema import EPISODES_PATH, PROGRESS_PATH, DatasetInfo, numbered_file
from nearer.datasets.lerobot.statistics import NAMES, FeatureStatistics, aggregate
from nearer.runs.files import TEMPORARY_SUFFIX


def resume_columns(info: DatasetInfo) -> list[str]:
    """Return the columns of the episodes table that resuming needs."""
    folders = _folders(info)
    places = [f"{name}/{part}" for name in folders for part in ("chunk_index", "file_index")]
    keys = info.features
    return ["length", *places, *(f"stats/{key}/{name}" for key in keys for name in NAMES)]


def _folders(info: DatasetInfo) -> list[str]:
    """Return the folders of numbered files, as the episodes table calls them."""
    return ["data", "meta/episodes", *(f"videos/{key}" for key in info.video_keys)]


def _file_numbers(info: DatasetInfo, table: Mapping[str, Array], folder: str) -> Array:
    """Return the number of each episode's file in a folder, counted through all chunks."""
    chunks = table[f"{folder}/chunk_index"]
    return chunks * info.chunks_size + table[f"{folder}/file_index"]


def check_boundary(
    root: Path, info: DatasetInfo, table: Mapping[str, Array], num_episodes: int
) -> None:
    """Raise DatasetError unless every file holds only kept or only dropped episodes."""
    steps = [np.diff(_file_numbers(info, table, folder)) for folder in _folders(info)]
    inner = np.flatnonzero(np.all(steps, axis=0)) + 1
    ends = [0, *inner.tolist(), info.total_episodes]
    if num_episodes not in ends:
        raise DatasetError(
            f"num_episodes must be the end of an append to {root}, one of {ends}, got "
            f"{num_episodes}; keep one of these"
        )


def check_no_gaps(root: Path, table: Mapping[str, Array]) -> None:
    """Raise DatasetError unless episodes are numbered as an append goes on to number them."""
    numbers = table["episode_index"]
    gaps = np.flatnonzero(numbers != np.arange(len(numbers)))
    if len(gaps):
        raise DatasetError(
            f"{root} must have the episodes 0, 1, 2, ... to append to, got episode "
            f"{numbers[gaps[0]]} in row {gaps[0]}; record into a new data set"
        )


def kept_tasks(root: Path, info: DatasetInfo, num_episodes: int) -> tuple[str, ...]:
    """Return the tasks of the first episodes: tasks are numbered as they appear."""
    tasks = read_tasks(root, info)
    if num_episodes == info.total_episodes:
        return tasks
    number_of_task = {task: number for number, task in enumerate(tasks)}
    used: list[list[str]] = []
    for path in numbered_files(root, EPISODES_FOLDER):
        if len(used) >= num_episodes:
            break
        used += parquet.read_lists(path, ["tasks"])["tasks"]
    numbers = [number_of_task[task] + 1 for names in used[:num_episodes] for task in names]
    return tasks[: max(numbers, default=0)]


def kept_statistics(info: DatasetInfo, kept: Mapping[str, Array]) -> dict[str, FeatureStatistics]:
    """Return the statistics of the first episodes together, by feature."""
    if not len(kept["length"]):
        return {}
    result: dict[str, FeatureStatistics] = {}
    for key, feature in info.features.items():
        columns = {name: kept[f"stats/{key}/{name}"] for name in NAMES}
        shaped = {
            name: values.reshape(len(values), *feature.statistics_shape)
            for name, values in columns.items()
            if name != "count"
        }
        count = columns["count"].reshape(-1)
        result[key] = aggregate(FeatureStatistics(**shaped, count=count))
    return result


def next_file(info: DatasetInfo, kept: Mapping[str, Array]) -> int:
    """Return a number that no kept file has, in any folder, counted through all chunks."""
    last = [_file_numbers(info, kept, folder).max(initial=-1) for folder in _folders(info)]
    return int(max(last)) + 1


def kept_files(root: Path, info: DatasetInfo, kept: Mapping[str, Array]) -> set[Path]:
    """Return the numbered files of the kept episodes, whether they exist or not."""

    def places(folder: str) -> list[tuple[int, int]]:
        numbers = np.unique(_file_numbers(info, kept, folder)).tolist()
        return [divmod(number, info.chunks_size) for number in numbers]

    data = places("data")
    names = [info.data_file(*place) for place in data]
    names += [numbered_file(PROGRESS_PATH, *place) for place in data]
    names += [numbered_file(EPISODES_PATH, *place) for place in places("meta/episodes")]
    for key in info.video_keys:
        names += [info.video_file(key, *place) for place in places(f"videos/{key}")]
    return {root / name for name in names}


def remove_leftovers(root: Path, kept: set[Path]) -> None:
    """Delete the files of a data set's folders that no kept episode refers to."""
    for folder in ("data", "videos", "meta", "nearer_progress"):
        for path in (root / folder).rglob("*"):
            numbered = path.match("chunk-*/file-*.parquet") or path.match("chunk-*/file-*.mp4")
            if (numbered and path not in kept) or path.name.endswith(TEMPORARY_SUFFIX):
                path.unlink()
