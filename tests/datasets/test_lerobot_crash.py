"""After a kill, a full disk or a failing rename, committed appends stay and the rest goes."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.reader import open_dataset, read_progress
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames
from nearer.runs.files import temporary_path

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"
FEATURES = {
    "action": Feature(dtype="float32", shape=(2,)),
    "wrist": Feature(dtype="image", shape=(4, 4, 3)),
    "top": Feature(dtype="video", shape=(16, 16, 3)),
}
FILES_OF_SECOND_APPEND = (
    "data/chunk-000/file-001.parquet",
    "videos/top/chunk-000/file-001.mp4",
    "meta/episodes/chunk-000/file-001.parquet",
    "nearer_progress/chunk-000/file-001.parquet",
    "meta/tasks.parquet",
    "meta/stats.json",
    "meta/info.json",
)


def episodes_of(append: int) -> list[EpisodeFrames]:
    random = np.random.default_rng(append)
    return [
        EpisodeFrames(
            task=f"task {append}",
            columns={
                "action": random.random((n, 2), np.float32),
                "wrist": random.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8),
                "top": np.full((n, 16, 16, 3), 40 * append, dtype=np.uint8),
            },
        )
        for n in (3, 2)
    ]


def progress_of(append: int) -> list[dict[str, np.ndarray]]:
    return [{"reward": np.full(n, append, dtype=np.float32)} for n in (3, 2)]


def write_appends(root: Path, num_appends: int) -> DatasetWriter:
    writer = DatasetWriter.create(root, FEATURES, fps=10)
    for append in range(num_appends):
        writer.append(episodes_of(append), progress_of(append))
    return writer


def contents(root: Path) -> dict[str, bytes]:
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def check_appends(root: Path, num_appends: int) -> None:
    """Check that the data set holds exactly the first appends, with pixels and progress."""
    dataset = open_dataset(root)
    episodes = [episode for append in range(num_appends) for episode in episodes_of(append)]
    assert dataset.episode_lengths.tolist() == [3, 2] * num_appends
    assert [dataset.task_of_episode(i) for i in range(len(episodes))] == [e.task for e in episodes]
    assert dataset.tasks == tuple(f"task {append}" for append in range(num_appends))
    if not episodes:
        return
    actions = np.concatenate([episode.columns["action"] for episode in episodes])
    np.testing.assert_array_equal(dataset.columns["action"], actions)
    everything = np.arange(len(actions))
    wrist = np.concatenate([episode.columns["wrist"] for episode in episodes])
    np.testing.assert_array_equal(dataset.frames("wrist", everything), wrist)
    brightness = dataset.frames("top", everything).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, np.repeat(range(num_appends), 5) * 40, atol=2)
    progress = read_progress(dataset)
    assert progress["index"].tolist() == everything.tolist()
    assert progress["reward"].tolist() == np.repeat(range(num_appends), 5).tolist()


def copies_at_each_step(monkeypatch, root: Path, folder: Path, act) -> list[Path]:
    """Run `act` and return copies of the data set as a kill at each of its steps leaves it."""
    copies: list[Path] = []

    def before(step):
        def stepping(*arguments):
            copies.append(Path(shutil.copytree(root, folder / f"{len(copies):03d}")))
            return step(*arguments)

        return stepping

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync"):
            patch.setattr(os, name, before(getattr(os, name)))
        patch.setattr(Path, "unlink", before(Path.unlink))
        act()
    copies.append(Path(shutil.copytree(root, folder / "end")))
    return copies


def test_append_killed_at_any_moment_leaves_the_last_append(tmp_path, monkeypatch):
    root = tmp_path / "set"
    writer = write_appends(root, 1)
    copies = copies_at_each_step(
        monkeypatch, root, tmp_path, lambda: writer.append(episodes_of(1), progress_of(1))
    )
    expected = contents(root)
    committed_appends = []
    for copy in copies:
        committed_appends.append(open_dataset(copy).info.total_episodes // 2)
        check_appends(copy, committed_appends[-1])
        resumed = DatasetWriter.resume(copy, 2)
        check_appends(copy, 1)
        resumed.append(episodes_of(1), progress_of(1))
        assert contents(copy) == expected
    assert committed_appends == sorted(committed_appends)
    assert set(committed_appends) == {1, 2}
    assert committed_appends.count(2) <= 2
    assert len(copies) > 15


def test_resume_killed_at_any_moment_can_be_resumed(tmp_path, monkeypatch):
    root = tmp_path / "set"
    write_appends(root, 3)
    copies = copies_at_each_step(monkeypatch, root, tmp_path, lambda: DatasetWriter.resume(root, 2))
    expected = contents(root)
    for copy in copies:
        check_appends(copy, open_dataset(copy).info.total_episodes // 2)
        DatasetWriter.resume(copy, 2)
        assert contents(copy) == expected
    assert len(copies) > 10


@pytest.mark.parametrize("name", FILES_OF_SECOND_APPEND)
def test_append_on_a_full_disk_keeps_earlier_appends(tmp_path, name):
    writer = write_appends(tmp_path, 1)
    earlier = contents(tmp_path)
    # Writes to /dev/full fail as they do on a full disk.
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    temporary_path(tmp_path / name).symlink_to("/dev/full")
    message = "No space left on device; the first 2 episodes are kept .* free some space"
    with pytest.raises(DatasetError, match=message):
        writer.append(episodes_of(1), progress_of(1))
    assert contents(tmp_path) == earlier
    writer.append(episodes_of(1), progress_of(1))
    check_appends(tmp_path, 2)


@pytest.mark.parametrize("name", FILES_OF_SECOND_APPEND)
def test_append_with_a_failing_rename_keeps_earlier_appends(tmp_path, monkeypatch, name):
    writer = write_appends(tmp_path, 1)

    def failing(source, target, rename=os.replace):
        if str(target).endswith(name):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(DatasetError, match="Input/output error; the first 2 episodes are kept"):
            writer.append(episodes_of(1), progress_of(1))
    check_appends(tmp_path, 1)
    assert [path for path in contents(tmp_path) if "file-001" in path or "tmp" in path] == []
    writer.append(episodes_of(1), progress_of(1))
    check_appends(tmp_path, 2)


def test_append_interrupted_after_the_commit_loses_nothing(tmp_path, monkeypatch):
    writer = write_appends(tmp_path, 1)

    def interrupted(source, target, rename=os.replace):
        rename(source, target)
        if str(target).endswith("info.json"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.append(episodes_of(1), progress_of(1))
    check_appends(tmp_path, 2)
    with pytest.raises(DatasetError, match=r"open the data set again with DatasetWriter\.resume"):
        writer.append(episodes_of(1), progress_of(1))
    check_appends(tmp_path, 2)


def test_append_beside_a_second_writer_is_refused(tmp_path):
    writer = write_appends(tmp_path, 1)
    DatasetWriter.resume(tmp_path, 2).append(episodes_of(1), progress_of(1))
    with pytest.raises(DatasetError, match="a file of another writer"):
        writer.append(episodes_of(1), progress_of(1))
    check_appends(tmp_path, 2)


@pytest.mark.parametrize("num_appends_kept", [0, 1, 2, 3])
def test_resume_after_fewer_episodes_equals_never_having_written_more(tmp_path, num_appends_kept):
    write_appends(tmp_path / "whole", 3)
    resumed = DatasetWriter.resume(tmp_path / "whole", 2 * num_appends_kept)
    assert resumed.info.total_episodes == 2 * num_appends_kept
    check_appends(tmp_path / "whole", num_appends_kept)
    write_appends(tmp_path / "fresh", num_appends_kept)
    whole, fresh = contents(tmp_path / "whole"), contents(tmp_path / "fresh")
    assert whole.keys() == fresh.keys()
    del whole["meta/stats.json"], fresh["meta/stats.json"]
    assert whole == fresh
    resumed.append(episodes_of(num_appends_kept), progress_of(num_appends_kept))
    check_appends(tmp_path / "whole", num_appends_kept + 1)


def test_resume_inside_an_append_is_refused(tmp_path):
    write_appends(tmp_path, 3)
    earlier = contents(tmp_path)
    with pytest.raises(DatasetError, match=r"one of \[0, 2, 4, 6\], got 3"):
        DatasetWriter.resume(tmp_path, 3)
    with pytest.raises(DatasetError, match=r"lie in \[0, 6\], .* got 7"):
        DatasetWriter.resume(tmp_path, 7)
    assert contents(tmp_path) == earlier


def test_resume_of_lerobots_sample_appends_to_it(tmp_path):
    root = Path(shutil.copytree(SAMPLES / "image", tmp_path / "image"))
    before = open_dataset(root)
    writer = DatasetWriter.resume(root, 4)
    rows = np.arange(12)
    columns = {key: before.columns[key][rows] for key in ("observation.state", "action")}
    columns["observation.images.top"] = before.frames("observation.images.top", rows)
    writer.append([EpisodeFrames(task="a new task", columns=columns)])
    after = open_dataset(root)
    assert after.tasks == (*before.tasks, "a new task")
    assert after.episode_lengths.tolist() == [12, 7, 20, 9, 12]
    again = after.frames("observation.images.top", 48 + rows)
    np.testing.assert_array_equal(again, columns["observation.images.top"])
    np.testing.assert_array_equal(after.columns["action"][:48], before.columns["action"])


def test_resume_with_other_files_in_the_folder_keeps_them(tmp_path):
    write_appends(tmp_path, 2)
    notes = ("README.md", "data/notes.txt", "sarm_progress.parquet", "meta/subtasks.parquet")
    for name in notes:
        (tmp_path / name).write_text("mine")
    DatasetWriter.resume(tmp_path, 2)
    assert all((tmp_path / name).read_text() == "mine" for name in notes)


def test_create_where_a_file_is_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="must be on a disk that can be written"):
        DatasetWriter.create(tmp_path / "file" / "set", FEATURES, fps=10)
