"""Lists of a LeRobotDataset v2.0 or v2.1: meta/episodes.jsonl and meta/tasks.jsonl.

Every episode has files of its own, whose number is the episode's, and starts where they start.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.info_values import count
from nearer.datasets.lerobot.schema import DatasetInfo
from nearer.datasets.lerobot.stored_files import stored_file

EPISODES_LIST, TASKS_LIST = "meta/episodes.jsonl", "meta/tasks.jsonl"

_MAX_LIST_BYTES = 512 * 1024**2


def read_episodes_list(root: Path, info: DatasetInfo) -> dict[str, Array]:
    """Return the columns of version 3.0's episodes table that are read, [episodes] each.

    Raises:
        DatasetError: The list is missing or damaged.
    """
    path = stored_file(root, EPISODES_LIST, _MAX_LIST_BYTES)
    rows: list[tuple[int, int]] = []
    for number, line in _lines(path):
        try:
            rows.append((count(line, "episode_index"), count(line, "length")))
        except (KeyError, ValueError) as error:
            raise _damaged(path, number, error) from error
    table: Array = np.array(rows, dtype=np.int64).reshape(-1, 2)
    episodes = table[:, 0]
    columns: dict[str, Array] = {"episode_index": episodes, "length": table[:, 1]}
    for folder in ("data", *(f"videos/{info.stored_key(key)}" for key in info.video_keys)):
        columns[f"{folder}/chunk_index"] = episodes // info.chunks_size
        columns[f"{folder}/file_index"] = episodes
        columns[f"{folder}/from_timestamp"] = np.zeros(len(episodes))
    return columns


def read_tasks_list(root: Path) -> dict[int, object]:
    """Return the instructions by task_index.

    Raises:
        DatasetError: The list is missing or damaged.
    """
    path = stored_file(root, TASKS_LIST, _MAX_LIST_BYTES)
    tasks: dict[int, object] = {}
    for number, line in _lines(path):
        try:
            tasks[count(line, "task_index")] = line["task"]
        except (KeyError, ValueError) as error:
            raise _damaged(path, number, error) from error
    return tasks


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Give every JSON object of a file of JSON lines, with its line's number."""
    number = 0
    try:
        with path.open(encoding="utf-8") as handle:
            for number, text in enumerate(handle, start=1):
                if text.strip():
                    yield number, _object(text, path, number)
    except FileNotFoundError as error:
        message = f"{path} must exist, got no such file; restore or download it again"
        raise DatasetError(message) from error
    except OSError as error:
        raise DatasetError(
            f"{path} must be readable, got {error.strerror!r}; restore the file"
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, number + 1, error) from error


def _object(text: str, path: Path, number: int) -> Mapping[str, object]:
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number, error) from error
    if not isinstance(document, dict):
        raise _damaged(path, number, ValueError("no JSON object"))
    return cast(Mapping[str, object], document)


def _damaged(path: Path, line: int, error: Exception) -> DatasetError:
    got = f"no key {error}" if isinstance(error, KeyError) else str(error)
    return DatasetError(
        f"{path} must hold a JSON object a line, got in line {line}: {got}; restore or download "
        "it again"
    )
