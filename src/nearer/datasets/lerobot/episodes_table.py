"""What meta/ says of a data set's episodes and instructions, in the form of version 3.0."""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.parquet import column_names, read_columns, read_lists
from nearer.datasets.lerobot.schema import INFO_PATH, TASKS_PATH, DatasetInfo
from nearer.datasets.lerobot.stored_files import stored_file
from nearer.datasets.lerobot.version_2 import (
    EPISODES_LIST,
    TASKS_LIST,
    read_episodes_list,
    read_tasks_list,
)

EPISODES_FOLDER = "meta/episodes"

_TEXTS = ("task", "__index_level_0__")
"""Names of the column of instructions; pandas gives the second to an index without a name."""


def read_tasks(root: Path, info: DatasetInfo) -> tuple[str, ...]:
    """Return the committed instructions by task_index; raise DatasetError if some are missing."""
    if not info.total_tasks:
        return ()
    path = root / (TASKS_LIST if info.has_file_per_episode else TASKS_PATH)
    by_index = read_tasks_list(root) if info.has_file_per_episode else _tasks_table(root)
    # As many steps as there are tasks, however many info.json claims.
    missing = next(index for index in count() if index not in by_index)
    if missing < info.total_tasks:
        message = f"{path} must name {info.total_tasks} tasks, as {INFO_PATH} says"
        raise DatasetError(f"{message}, got none for task_index {missing}; restore the file")
    tasks = [by_index[index] for index in range(info.total_tasks)]
    texts = tuple(task for task in tasks if isinstance(task, str))
    if len(texts) < len(tasks):
        wrong = next(index for index, task in enumerate(tasks) if not isinstance(task, str))
        raise DatasetError(
            f"{path} must name every task in words, got {tasks[wrong]!r} for task_index {wrong}; "
            "restore the file"
        )
    return texts


def _tasks_table(root: Path) -> Mapping[object, object]:
    path = stored_file(root, TASKS_PATH)
    names = column_names(path)
    text = next((name for name in _TEXTS if name in names), _TEXTS[0])
    table = read_lists(path, ["task_index", text])
    strange = [index for index in table["task_index"] if not isinstance(index, int | float)]
    if strange:
        raise DatasetError(
            f"column 'task_index' of {path} must hold numbers, got {strange[0]!r}; restore the file"
        )
    return dict(zip(table["task_index"], table[text], strict=True))


def read_episodes_table(
    root: Path, info: DatasetInfo, names: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, Array]:
    """Return columns of the episodes table, [episodes, ...] each, committed episodes only.

    Args:
        root: The data set's folder.
        info: What it says of itself.
        names: Of the columns, beside `episode_index`.
        optional: Further ones, which are left out where they are missing or damaged.

    Raises:
        DatasetError: A file is damaged, a column is missing, or episodes are.
    """
    if info.has_file_per_episode:
        folder = root / EPISODES_LIST
        parts = [read_episodes_list(root, info)]
    else:
        folder = root / EPISODES_FOLDER
        parts = _table_parts(root, info, names, optional)
    num_read = sum(len(part["episode_index"]) for part in parts)
    if num_read < info.total_episodes:
        raise DatasetError(
            f"{folder} must list {info.total_episodes} episodes, as {INFO_PATH} says, got "
            f"{num_read}; restore or download its files again"
        )
    if not parts:
        return {name: np.empty(0, dtype=np.int64) for name in ("episode_index", *names)}
    everywhere = [name for name in parts[0] if all(name in part for part in parts)]
    for part in parts[1:]:
        strange = [name for name in everywhere if part[name].shape[1:] != parts[0][name].shape[1:]]
        if strange:
            message = f"{folder} must have {strange[0]} of one shape in all of its files"
            raise DatasetError(f"{message}, got two; restore or download them again")
    table = {name: np.concatenate([part[name] for part in parts]) for name in everywhere}
    table = {name: values[: info.total_episodes] for name, values in table.items()}
    numbers = table["episode_index"]
    wrong = np.flatnonzero(np.diff(numbers, prepend=-1) < 1)
    if len(wrong):
        raise DatasetError(
            f"{folder} must list episodes in ascending order, each once, got episode "
            f"{numbers[wrong[0]]} in row {wrong[0]}; restore its files"
        )
    return table


def _table_parts(
    root: Path, info: DatasetInfo, names: Sequence[str], optional: Sequence[str]
) -> list[dict[str, Array]]:
    """Return the files of the table, up to the one with the last committed episode."""
    parts: list[dict[str, Array]] = []
    num_read = 0
    for path in numbered_files(root, EPISODES_FOLDER):
        if num_read >= info.total_episodes:
            break
        part = read_columns(path, ["episode_index", *names], optional)
        for name in ("episode_index", "length"):
            if name in part and (part[name].dtype.kind not in "iu" or part[name].ndim != 1):
                raise DatasetError(
                    f"column {name!r} of {path} must hold a whole number a row, got "
                    f"{part[name].dtype} of shape {part[name].shape}; restore the file"
                )
        parts.append(part)
        num_read += len(part["episode_index"])
    return parts


def numbered_files(root: Path, folder: str) -> list[Path]:
    """Return the chunk-*/file-*.parquet files of a data set's folder by their numbers."""
    found = [
        path.relative_to(root).as_posix() for path in (root / folder).glob("chunk-*/file-*.parquet")
    ]
    # Numbers are padded with zeros to three digits, so longer names are later ones.
    return [stored_file(root, name) for name in sorted(found, key=lambda name: (len(name), name))]
