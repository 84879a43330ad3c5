"""What stays of a data set whose later episodes are dropped."""

from pathlib import Path

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.reader import read_episodes_table
from nearer.datasets.lerobot.resume import (
    check_boundary,
    kept_files,
    kept_statistics,
    kept_tasks,
    next_file,
    remove_leftovers,
    resume_columns,
)
from nearer.datasets.lerobot.schema import DatasetInfo, Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames
from nearer.runs.files import temporary_path

Written = tuple[Path, DatasetInfo, dict[str, Array]]
"""A data set's folder, what it says of itself, and its episodes table."""
APPENDS = ((("push", 3), ("pull", 2)), (("push", 4),), (("turn", 2), ("lift", 5)))
"""Instruction and frames of each episode, append by append."""


def numbers(first: float, num_frames: int) -> Array:
    return np.arange(first, first + num_frames, dtype=np.float32)[:, None]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Return a data set of three appends."""
    features = {"action": Feature(dtype="float32", shape=(1,))}
    writer = DatasetWriter.create(tmp_path / "data", features, fps=10)
    for append in APPENDS:
        writer.append(
            [EpisodeFrames(task=task, columns={"action": numbers(n, n)}) for task, n in append],
            [{"steps_to_go": numbers(0, n)} for _, n in append],
        )
    columns = resume_columns(writer.info)
    return writer.root, writer.info, read_episodes_table(writer.root, writer.info, columns)


@pytest.mark.parametrize("num_episodes", [0, 2, 3, 5])
def test_check_boundary_between_appends_passes(written: Written, num_episodes: int) -> None:
    root, info, table = written
    check_boundary(root, info, table, num_episodes)


@pytest.mark.parametrize("num_episodes", [1, 4])
def test_check_boundary_inside_an_append_is_refused(written: Written, num_episodes: int) -> None:
    root, info, table = written
    with pytest.raises(DatasetError, match=rf"\[0, 2, 3, 5\], got {num_episodes}; keep one of"):
        check_boundary(root, info, table, num_episodes)


def test_kept_tasks_are_those_of_the_kept_episodes(written: Written) -> None:
    root, info, _ = written
    kept = [kept_tasks(root, info, num_episodes) for num_episodes in (0, 2, 3, 5)]
    first, every = ("push", "pull"), ("push", "pull", "turn", "lift")
    assert kept == [(), first, first, every]


def test_kept_statistics_are_those_of_the_kept_frames_together(written: Written) -> None:
    _, info, table = written
    kept = {name: values[:3] for name, values in table.items()}
    action = kept_statistics(info, kept)["action"]
    frames = np.concatenate([numbers(n, n) for n in (3, 2, 4)])
    assert (action.count.item(), action.min.item(), action.max.item()) == (9, 2, 7)
    assert action.mean.item() == pytest.approx(frames.mean())
    assert action.std.item() == pytest.approx(frames.std())


def test_kept_statistics_of_no_episodes_are_empty_and_next_file_is_zero(written: Written) -> None:
    root, info, table = written
    nothing = {name: values[:0] for name, values in table.items()}
    assert kept_statistics(info, nothing) == {}
    assert next_file(info, nothing) == 0
    assert kept_files(root, info, nothing) == set()


def test_next_file_is_the_first_that_no_kept_episode_is_in(written: Written) -> None:
    _, info, table = written
    counts = [
        next_file(info, {name: values[:n] for name, values in table.items()}) for n in (2, 3, 5)
    ]
    assert counts == [1, 2, 3]


def test_kept_files_of_two_appends_are_data_progress_and_episodes_of_both(written: Written) -> None:
    root, info, table = written
    files = kept_files(root, info, {name: values[:3] for name, values in table.items()})
    assert files == {
        root / folder / "chunk-000" / f"file-00{number}.parquet"
        for folder in ("data", "nearer_progress", "meta/episodes")
        for number in (0, 1)
    }
    assert all(path.is_file() for path in files)


def test_remove_leftovers_deletes_dropped_and_half_written_files_alone(written: Written) -> None:
    root, info, table = written
    kept = kept_files(root, info, {name: values[:2] for name, values in table.items()})
    half = temporary_path(root / "data/chunk-000/file-009.parquet")
    notes = root / "data/notes.parquet"
    for path in (half, notes):
        path.write_text("")
    remove_leftovers(root, kept)
    left = {path for path in root.rglob("*") if path.is_file()}
    meta = {root / "meta" / name for name in ("info.json", "stats.json", "tasks.parquet")}
    assert left == kept | meta | {notes}
