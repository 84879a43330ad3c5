"""Reading LeRobotDataset v3.0 as lerobot wrote it, and refusing damaged files."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.reader import open_dataset, read_progress, resolve_dataset
from nearer.datasets.lerobot.videos import encode_video

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"
CAMERA = "observation.images.top"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
KINDS = ("video", "image")


@pytest.fixture
def copy_sample(tmp_path):
    """Return a function that copies a sample, to be damaged by the test."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(SAMPLES / kind, tmp_path / kind))

    return copy


def edit_info(root: Path, **changes: object) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_column(path: Path, name: str, values: object) -> None:
    table = pq.read_table(path)
    column = pa.array(values, table.schema.field(name).type)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), path)


def truncate(path: Path, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


@pytest.mark.parametrize("kind", KINDS)
def test_open_dataset_of_lerobots_samples_has_the_numbers_that_lerobot_reads(kind):
    dataset = open_dataset(SAMPLES / kind)
    expected = json.loads((SAMPLES / "expected.json").read_text())[kind]
    rows = np.array([frame["index"] for frame in expected])
    for key in ("index", "episode_index", "frame_index", "timestamp"):
        expected_values = np.array([frame[key] for frame in expected])
        np.testing.assert_array_equal(
            dataset.columns[key][rows], expected_values.astype(np.float32)
        )
    for key, name in (("observation.state", "state"), ("action", "action")):
        assert dataset.columns[key].shape == (48, 2)
        assert dataset.columns[key].dtype == np.float32
        expected_values = np.array([frame[name] for frame in expected])
        np.testing.assert_allclose(dataset.columns[key][rows], expected_values, atol=6e-7)
    for frame in expected:
        assert dataset.task_of_episode(frame["episode_index"]) == frame["task"]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_lerobots_sample_equal_those_that_lerobot_reads(kind):
    dataset = open_dataset(SAMPLES / kind)
    expected = json.loads((SAMPLES / "expected.json").read_text())[kind]
    images = dataset.frames(CAMERA, np.array([frame["index"] for frame in expected]))
    assert images.shape == (len(expected), 96, 128, 3)
    means = images.reshape(len(expected), -1, 3).mean(axis=1) / 255
    np.testing.assert_allclose(means, [f["image_mean_rgb"] for f in expected], atol=5e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_open_dataset_episodes_divide_the_frames(kind):
    dataset = open_dataset(SAMPLES / kind)
    assert dataset.episode_lengths.tolist() == [12, 7, 20, 9]
    assert dataset.episode_starts.tolist() == [0, 12, 19, 39]
    assert dataset.info.fps == 10
    assert dataset.info.robot_type == "tabletop"
    assert dataset.info.total_frames == 48
    assert len(dataset.tasks) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_frames_in_any_order_follow_the_indices(kind):
    dataset = open_dataset(SAMPLES / kind)
    all_images = dataset.frames(CAMERA, np.arange(48))
    indices = np.array([47, 0, 13, 13, 12, 40, 1])
    np.testing.assert_array_equal(dataset.frames(CAMERA, indices), all_images[indices])
    assert dataset.frames(CAMERA, np.array([], dtype=np.int64)).shape == (0, 96, 128, 3)


def test_open_dataset_columns_are_read_only():
    dataset = open_dataset(SAMPLES / "video")
    assert not any(values.flags.writeable for values in dataset.columns.values())


def test_read_progress_of_lerobots_sample_is_none():
    assert read_progress(open_dataset(SAMPLES / "video")) is None


def test_open_dataset_ignores_rows_beyond_the_totals(copy_sample):
    root = copy_sample("image")
    edit_info(root, total_episodes=2, total_frames=19, total_tasks=2)
    dataset = open_dataset(root)
    assert dataset.columns["action"].shape == (19, 2)
    assert dataset.episode_lengths.tolist() == [12, 7]
    assert len(dataset.tasks) == 2


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("video", lambda r: (r / "meta/info.json").unlink(), "meta/info.json"),
        ("video", lambda r: truncate(r / "meta/info.json"), "valid JSON"),
        ("video", lambda r: (r / "meta/info.json").write_text("[]"), "JSON object"),
        ("video", lambda r: (r / "meta/info.json").write_bytes(b"\xff\xfe\x00"), "valid JSON"),
        ("video", lambda r: edit_info(r, codebase_version="v3.1"), "lerobot release"),
        ("video", lambda r: edit_info(r, fps=0), "fps 0, not a number of frames per second"),
        ("video", lambda r: edit_info(r, features=[]), "LeRobotDataset v3.0"),
        ("video", lambda r: edit_info(r, features={}), "feature 'episode_index'"),
        ("video", lambda r: edit_info(r, data_path="{chunk}.parquet"), r"{chunk} is none of"),
        ("video", lambda r: edit_info(r, total_episodes=5), "list 5 episodes"),
        ("video", lambda r: edit_info(r, total_frames=47), "got 47"),
        ("video", lambda r: edit_info(r, total_tasks=4), "task_index 3"),
        ("video", lambda r: edit_info(r, total_tasks=2), "name task 2"),
        ("video", lambda r: truncate(r / DATA), "whole parquet file"),
        ("video", lambda r: truncate(r / EPISODES), "whole parquet file"),
        ("video", lambda r: truncate(r / "meta/tasks.parquet"), "whole parquet file"),
        ("video", lambda r: (r / DATA).write_bytes(b""), "whole parquet file"),
        ("video", lambda r: (r / DATA).unlink(), "no such file"),
        ("video", lambda r: (r / EPISODES).unlink(), "got 0"),
        ("video", lambda r: (r / "meta/tasks.parquet").unlink(), "no such file"),
        (
            "video",
            lambda r: edit_column(r / EPISODES, "length", [11, 8, 20, 9]),
            "episode 0 .* must have 11 rows .* got 12",
        ),
        (
            "video",
            lambda r: edit_column(r / EPISODES, "episode_index", [0, 1, 1, 3]),
            "got episode 1 in row 2",
        ),
        (
            "video",
            lambda r: edit_column(r / DATA, "episode_index", [1] * 12 + [0] * 7 + [2] * 29),
            "episode 0 .* must have 12 rows",
        ),
        (
            "video",
            lambda r: edit_column(
                r / DATA, "episode_index", [1, *[0] * 11, 0, *[1] * 6, *[2] * 20, *[3] * 9]
            ),
            "frame 0 .* episode_index 0, got 1",
        ),
        (
            "video",
            lambda r: edit_column(r / DATA, "task_index", [None, *[0] * 47]),
            "a number in every row",
        ),
    ],
)
def test_open_dataset_with_damaged_files_is_refused_in_one_sentence(
    copy_sample, kind, damage, message
):
    root = copy_sample(kind)
    damage(root)
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(root)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_open_dataset_with_a_column_of_another_shape_is_refused(copy_sample):
    root = copy_sample("video")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["action"]["shape"] = [3]
    edit_info(root, features=features)
    with pytest.raises(DatasetError, match=r"action must have the shape \(3,\).* got \(2,\)"):
        open_dataset(root)


def test_open_dataset_without_a_column_is_refused(copy_sample):
    root = copy_sample("video")
    pq.write_table(pq.read_table(root / DATA).drop(["action"]), root / DATA)
    with pytest.raises(DatasetError, match="must have the column 'action'"):
        open_dataset(root)


def test_open_dataset_of_an_older_version_names_no_tool_that_deletes(copy_sample):
    root = copy_sample("video")
    edit_info(root, codebase_version="v1.6")
    with pytest.raises(DatasetError, match="convert a copy of the data set") as refused:
        open_dataset(root)
    assert "convert_dataset" not in str(refused.value)


def test_open_dataset_of_a_file_is_refused(tmp_path):
    path = tmp_path / "episodes.zip"
    path.write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"got no file meta/info\.json"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("video", lambda r: truncate(r / VIDEO, keep=0.1), "whole video"),
        ("video", lambda r: truncate(r / VIDEO), r"must have a frame at 4\.000 s"),
        ("video", lambda r: (r / VIDEO).write_bytes(b""), "whole video"),
        ("video", lambda r: (r / VIDEO).unlink(), "no such file"),
        ("image", lambda r: truncate(r / DATA), "whole parquet file"),
        ("image", lambda r: (r / DATA).unlink(), "no such file"),
        (
            "image",
            lambda r: edit_column(r / DATA, CAMERA, [{"bytes": b"\x89PNG", "path": "a.png"}] * 48),
            "whole PNG or JPEG image",
        ),
        (
            "image",
            lambda r: edit_column(r / DATA, CAMERA, [{"bytes": b"", "path": "a.png"}] * 48),
            "whole PNG or JPEG image",
        ),
        (
            "image",
            lambda r: edit_column(r / DATA, CAMERA, [{"bytes": None, "path": "a.png"}] * 48),
            "an image in row 5",
        ),
    ],
)
def test_frames_of_damaged_images_are_refused_in_one_sentence(copy_sample, kind, damage, message):
    root = copy_sample(kind)
    dataset = open_dataset(root)
    damage(root)
    with pytest.raises(DatasetError, match=message) as caught:
        dataset.frames(CAMERA, np.array([5, 40]))
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_frames_of_a_video_that_ends_early_are_refused(copy_sample):
    root = copy_sample("video")
    dataset = open_dataset(root)
    with (root / VIDEO).open("wb") as handle:
        encode_video(handle, [np.zeros((44, 96, 128, 3), np.uint8)], fps=10)
    with pytest.raises(DatasetError, match=r"must have a frame at 4\.400 s"):
        dataset.frames(CAMERA, np.array([39, 44, 46]))


def test_frames_of_another_size_are_refused(copy_sample):
    root = copy_sample("image")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[CAMERA]["shape"] = [48, 64, 3]
    edit_info(root, features=features)
    with pytest.raises(DatasetError, match=r"48 x 64 pixels .* got 96 x 128 in frame 7"):
        open_dataset(root).frames(CAMERA, np.array([7]))


def test_frames_of_a_depth_map_are_refused(copy_sample):
    root = copy_sample("video")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[CAMERA]["info"]["is_depth_map"] = True
    edit_info(root, features=features)
    with pytest.raises(DatasetError, match="must name a colour camera"):
        open_dataset(root).frames(CAMERA, np.array([7]))


def test_frames_of_unknown_cameras_or_rows_are_refused():
    dataset = open_dataset(SAMPLES / "video")
    with pytest.raises(DatasetError, match=r"must name a colour camera .* got 'action'"):
        dataset.frames("action", np.array([0]))
    with pytest.raises(DatasetError, match=r"lie in \[0, 48\), got -1 to 48"):
        dataset.frames(CAMERA, np.array([-1, 48]))


def test_resolve_dataset_of_a_folder_downloads_nothing(tmp_path):
    assert resolve_dataset(str(tmp_path), None) == tmp_path


def test_resolve_dataset_of_a_hub_id_downloads_it(tmp_path, monkeypatch):
    def download(repo_id, *, repo_type, revision, allow_patterns):
        assert (repo_id, repo_type, revision) == ("lerobot/pusht", "dataset", "v3.0")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_dataset("lerobot/pusht", "v3.0") == tmp_path


@pytest.mark.parametrize(
    "error",
    [
        RepositoryNotFoundError(
            "404 Client Error.\n(Request ID: 1)",
            response=SimpleNamespace(headers={}, request=None, status_code=404),
        ),
        LocalEntryNotFoundError("Cannot find the requested files.\nNo connection."),
        ConnectionResetError("Connection reset by peer"),
        Exception("peer closed connection without sending complete message body"),
        Exception(),
    ],
)
def test_resolve_dataset_with_a_failed_download_is_refused_in_one_sentence(monkeypatch, error):
    def download(repo_id, *, repo_type, revision, allow_patterns):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(DatasetError, match="'user/name' must be a folder, or a data set") as caught:
        resolve_dataset("user/name", None)
    assert "\n" not in str(caught.value)


def test_resolve_dataset_of_neither_folder_nor_hub_id_is_refused():
    with pytest.raises(DatasetError, match="an existing folder or a hub id"):
        resolve_dataset("no/such/folder", None)
