"""Forms that lerobot reads and other writers produce: read here with the same values."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foreign_datasets import (
    CAMERA,
    DATA,
    EPISODES,
    INFO,
    SAMPLES,
    TASKS,
    copy_sample,
    edit_feature,
    edit_info,
    edit_table,
    rename_column,
    set_column,
    without_episode,
)
from nearer.core.errors import DatasetError
from nearer.core.memory import memory_bytes
from nearer.datasets.episodes import dataset_spaces
from nearer.datasets.lerobot.checks import check_trainable
from nearer.datasets.lerobot.episodes_table import read_tasks
from nearer.datasets.lerobot.images import encode_png
from nearer.datasets.lerobot.numbers import runs
from nearer.datasets.lerobot.progress_sidecar import sidecar_place, write_sidecar
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.lerobot.writer import DatasetWriter

WHOLE = open_dataset(SAMPLES / "image")
EXTRA = "observation.effort"


def lists_of(name: str, kind: object) -> pa.Array:
    return pq.read_table(SAMPLES / "image" / DATA)[name].combine_chunks().cast(kind)


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_list(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float32()),
        pa.list_(pa.float32(), 2),
    ],
)
def test_open_dataset_of_any_list_type_has_the_same_numbers(kind: object, tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    set_column(root / DATA, "action", lists_of("action", kind))
    np.testing.assert_array_equal(open_dataset(root).columns["action"], WHOLE.columns["action"])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_frames_of_plain_binary_images_are_the_same(kind: object, tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    encoded = pq.read_table(root / DATA)[CAMERA].combine_chunks().field("bytes").cast(kind)
    set_column(root / DATA, CAMERA, encoded)
    rows = np.array([47, 3, 3, 20])
    np.testing.assert_array_equal(
        open_dataset(root).frames(CAMERA, rows), WHOLE.frames(CAMERA, rows)
    )


def test_frames_of_a_column_without_images_are_refused(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    set_column(root / DATA, CAMERA, ["frame.png"] * 48)
    with pytest.raises(DatasetError, match=r"must hold encoded images, got string"):
        open_dataset(root).frames(CAMERA, np.array([0]))
    edit_table(root / DATA, lambda table: table.drop([CAMERA]))
    with pytest.raises(DatasetError, match=r"must hold encoded images, got no such column"):
        open_dataset(root).frames(CAMERA, np.array([0]))


@pytest.mark.parametrize("text", ["task", "__index_level_0__"])
def test_open_dataset_of_tasks_under_any_index_name_has_them(text: str, tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    names = pq.read_table(root / TASKS).column_names
    rename_column(root / TASKS, {name: text for name in names if name != "task_index"})
    dataset = open_dataset(root)
    assert dataset.tasks == WHOLE.tasks == read_tasks(root, dataset.info)
    assert len(set(dataset.tasks)) == 3


def test_open_dataset_of_a_task_without_words_is_refused(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    set_column(root / TASKS, "task", [None, *WHOLE.tasks[1:]])
    with pytest.raises(DatasetError, match="every task in words, got None for task_index 0"):
        open_dataset(root)


def test_open_dataset_without_chunks_size_takes_lerobots(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    edit_table(root / DATA, lambda table: table)
    text = (root / INFO).read_text()
    (root / INFO).write_text(text.replace('"chunks_size"', '"chunks_size_was"'))
    assert open_dataset(root).info.chunks_size == 1000


@pytest.mark.parametrize(("fps", "control_hz"), [(29.97, 30), (30.0, 30), (12.5, 12), (0.25, 1)])
def test_open_dataset_of_any_rate_keeps_it(fps: float, control_hz: int, tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    edit_info(root, fps=fps)
    dataset = open_dataset(root)
    assert dataset.info.fps == fps
    assert isinstance(dataset.info.fps, int) == (fps == 30)
    assert dataset_spaces(dataset).control_hz == control_hz


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[np.nan, 1.0]] * 48, pa.list_(pa.float32())),
        pa.array([None] * 48, pa.list_(pa.float32())),
        pa.array([[1.0, None]] * 48, pa.list_(pa.float32())),
        pa.array([[1.0]] * 20 + [[1.0, 2.0]] * 28, pa.list_(pa.float32())),
        pa.array([[1.0, 2.0, 3.0]] * 48, pa.list_(pa.float32())),
        pa.array(["high"] * 48),
        None,
    ],
)
def test_open_dataset_of_a_strange_feature_that_nobody_reads_trains(
    column: pa.Array | None, tmp_path: Path
) -> None:
    root = copy_sample("image", tmp_path)
    edit_feature(root, EXTRA, dtype="float32", shape=[2], names=None)
    if column is not None:
        set_column(root / DATA, EXTRA, column)
    dataset = open_dataset(root)
    check_trainable(dataset)
    np.testing.assert_array_equal(dataset.columns["action"], WHOLE.columns["action"])


@pytest.mark.parametrize("key", ["action", "observation.state"])
def test_open_dataset_of_a_strange_feature_that_is_read_is_refused(
    key: str, tmp_path: Path
) -> None:
    root = copy_sample("image", tmp_path)
    set_column(root / DATA, key, pa.array([[1.0, None]] * 48, pa.list_(pa.float32())))
    with pytest.raises(DatasetError, match=f"{key}.* must hold a number in every row"):
        open_dataset(root)


def test_open_dataset_of_whole_numbers_kept_as_floats_reads_them(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    tasks = pq.read_table(root / DATA)["task_index"].to_numpy()
    set_column(root / DATA, "task_index", tasks.astype(np.float64))
    np.testing.assert_array_equal(open_dataset(root).columns["task_index"], tasks)
    set_column(root / DATA, "task_index", np.where(np.arange(48) == 5, np.nan, tasks))
    with pytest.raises(DatasetError, match=r"task_index of .* must hold whole numbers"):
        open_dataset(root)


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("gone", [0, 1, 3])
def test_open_dataset_with_a_gap_in_episode_index_has_the_other_episodes(
    kind: str, gone: int, tmp_path: Path
) -> None:
    root = copy_sample(kind, tmp_path)
    whole = open_dataset(root)
    kept = np.flatnonzero(whole.columns["episode_index"] != gone)
    expected = whole.frames(CAMERA, kept)
    without_episode(root, gone)
    dataset = open_dataset(root)
    others = [number for number in range(4) if number != gone]
    assert dataset.episode_numbers.tolist() == others
    assert np.unique(dataset.columns["episode_index"]).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(dataset.columns["action"], whole.columns["action"][kept])
    np.testing.assert_array_equal(dataset.frames(CAMERA, np.arange(len(kept))), expected)
    own = [whole.task_of_episode(number) for number in others]
    assert [dataset.task_of_episode(row) for row in range(3)] == own


def test_open_dataset_with_rows_of_a_deleted_episode_leaves_them_out(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    rows = pq.read_table(root / DATA)
    without_episode(root, 1)
    edit_table(root / DATA, lambda _: rows)
    dataset = open_dataset(root)
    kept = np.r_[0:12, 19:48]
    assert dataset.rows_in_file.tolist() == kept.tolist()
    frames = dataset.frames(CAMERA, np.array([12, 40]))
    np.testing.assert_array_equal(frames, WHOLE.frames(CAMERA, np.array([19, 47])))


def test_write_sidecar_of_a_gap_names_episodes_as_the_files_do(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    without_episode(root, 1)
    dataset = open_dataset(root)
    columns = {"steps_to_go": np.zeros(41, np.float32)}
    write_sidecar(dataset, sidecar_place(dataset), columns, {"by": "a test"})
    table = pq.read_table(sidecar_place(dataset))
    assert np.unique(table["episode_index"].to_numpy()).tolist() == [0, 2, 3]
    assert table["index"].to_pylist() == [*range(12), *range(19, 48)]


def test_resume_of_a_gap_is_refused(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    without_episode(root, 1)
    with pytest.raises(DatasetError, match=r"episodes 0, 1, 2, .* got episode 2 in row 1"):
        DatasetWriter.resume(root, 3)


@pytest.mark.parametrize("twice", [[0, 1, 1, 3], [0, 2, 1, 3], [-1, 0, 1, 2]])
def test_open_dataset_of_episodes_out_of_order_is_refused(twice: list[int], tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    set_column(root / EPISODES, "episode_index", np.array(twice))
    with pytest.raises(DatasetError, match="in ascending order, each once"):
        open_dataset(root)


@pytest.mark.parametrize("shape", [(6, 8, 1), (6, 8, 4), (1, 6, 8), (4, 6, 8), (3, 6, 8)])
def test_frames_of_grey_or_transparent_images_are_rgb(
    shape: tuple[int, int, int], tmp_path: Path
) -> None:
    root = copy_sample("image", tmp_path)
    image = np.random.default_rng(0).integers(256, size=(6, 8, 3), dtype=np.uint8)
    set_column(root / DATA, CAMERA, pa.array([encode_png(image[None])[0]] * 48, pa.binary()))
    edit_feature(root, CAMERA, shape=list(shape))
    dataset = open_dataset(root)
    np.testing.assert_array_equal(dataset.frames(CAMERA, np.array([7]))[0], image)
    (camera,) = dataset_spaces(dataset).cameras
    assert (camera.height, camera.width) == (6, 8)


def test_open_dataset_of_another_number_of_channels_is_refused(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    edit_feature(root, CAMERA, shape=[96, 128, 2])
    with pytest.raises(DatasetError, match=r"\(96, 128, 2\).* with 1, 3 or 4 channels"):
        open_dataset(root)


def test_open_dataset_of_a_task_that_changes_names_episode_and_frames(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    tasks = pq.read_table(root / DATA)["task_index"].to_numpy().copy()
    tasks[25:39] = (tasks[25] + 1) % 3  # episode 2 is of frames 19 to 38
    set_column(root / DATA, "task_index", tasks)
    with pytest.raises(DatasetError, match=r"episode 2 of .* must have one instruction") as refused:
        open_dataset(root)
    assert f"got {WHOLE.tasks[(tasks[25] - 1) % 3]!r} in frames 0 to 5" in str(refused.value)
    assert f"{WHOLE.tasks[tasks[25]]!r} in frame 6; split it there" in str(refused.value)


def test_open_dataset_that_does_not_fit_the_memory_is_refused(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    edit_info(root, total_frames=memory_bytes())
    with pytest.raises(DatasetError, match="the memory must hold"):
        open_dataset(root)


def test_runs_gives_each_file_once_in_the_order_of_the_episodes() -> None:
    files = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [1, 0]])
    assert list(runs(files)) == [(0, 0), (0, 1), (1, 0)]
