"""lerobot's own samples, changed into what other writers make of the format."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SAMPLES = Path(__file__).parent / "data" / "lerobot_v3"
CAMERA = "observation.images.top"
INFO = "meta/info.json"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
TASKS = "meta/tasks.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"


def copy_sample(kind: str, folder: Path) -> Path:
    """Return a copy of the sample whose camera is kept as "video" or "image"."""
    return Path(shutil.copytree(SAMPLES / kind, folder / kind))


def edit_info(root: Path, **changes: object) -> None:
    """Set keys of meta/info.json."""
    document = json.loads((root / INFO).read_text())
    (root / INFO).write_text(json.dumps({**document, **changes}))


def edit_feature(root: Path, key: str, **changes: object) -> None:
    """Set what meta/info.json says of a feature; one that is new gets nothing else."""
    features = json.loads((root / INFO).read_text())["features"]
    features[key] = {**features.get(key, {}), **changes}
    edit_info(root, features=features)


def edit_table(path: Path, change: Callable[[Any], Any]) -> None:
    """Let a function change the table in a file."""
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def set_column(path: Path, name: str, column: Any) -> None:
    """Set or add a column of a file; an array of numbers keeps its own type."""
    values = pa.array(column) if isinstance(column, np.ndarray | list) else column

    def change(table: Any) -> Any:
        if name not in table.column_names:
            return table.append_column(name, values)
        return table.set_column(table.column_names.index(name), name, values)

    edit_table(path, change)


def rename_column(path: Path, names: Mapping[str, str]) -> None:
    """Give columns of a file other names."""
    edit_table(
        path,
        lambda table: table.rename_columns([names.get(name, name) for name in table.column_names]),
    )


def without_episode(root: Path, episode: int) -> None:
    """Delete an episode as some tools do: its rows go, the others keep numbers and videos."""
    for path in (root / DATA, root / EPISODES):
        edit_table(
            path, lambda table: table.filter(pa.compute.not_equal(table["episode_index"], episode))
        )
    lengths = pq.read_table(root / EPISODES)["length"].to_numpy()
    edit_info(root, total_episodes=len(lengths), total_frames=int(lengths.sum()))


def as_version_2(root: Path, version: str = "v2.1") -> Path:
    """Return the data set as a release of lerobot before 0.4 would have kept it, without videos."""
    old = root.with_name(root.name + "-v2")
    table, episodes = pq.read_table(root / DATA), pq.read_table(root / EPISODES).to_pylist()
    (old / "meta").mkdir(parents=True)
    (old / "data/chunk-000").mkdir(parents=True)
    for row in episodes:
        index = row["episode_index"]
        own = table.filter(pa.compute.equal(table["episode_index"], index))
        pq.write_table(own, old / f"data/chunk-000/episode_{index:06d}.parquet")
    lines = [
        {"episode_index": row["episode_index"], "tasks": row["tasks"], "length": row["length"]}
        for row in episodes
    ]
    _write_lines(old / "meta/episodes.jsonl", lines)
    tasks = pq.read_table(root / TASKS).to_pylist()
    text = "task" if "task" in tasks[0] else "__index_level_0__"
    _write_lines(
        old / "meta/tasks.jsonl",
        [{"task_index": row["task_index"], "task": row[text]} for row in tasks],
    )
    shutil.copyfile(root / INFO, old / INFO)
    document = json.loads((old / INFO).read_text())
    for key in ("data_files_size_in_mb", "video_files_size_in_mb"):
        document.pop(key, None)
    (old / INFO).write_text(json.dumps(document))
    edit_info(
        old,
        codebase_version=version,
        total_chunks=1,
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )
    return old


def _write_lines(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
