"""nearer sft: unusable data sets, models and runs to resume get one sentence and stay unharmed."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands.faults import Damage, edit_json, file_contents, remove_key, truncate
from commands.tiny_runs import ENV_ID, TINY_SFT
from nearer.cli import main
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames
from refusals import refused

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
INFO = "meta/info.json"

Capture = pytest.CaptureFixture[str]


def write_data_set(
    root: Path,
    lengths: tuple[int, ...] = (4, 5, 6),
    without: str = "",
    action: float = 0.5,
) -> Path:
    """Write a small data set that has a state of 4 and 2 numbers and an action of 2.

    Args:
        root: where to write it.
        lengths: number of frames of each episode.
        without: feature to leave out.
        action: first number of the second frame's action in the last episode.
    """
    sizes = {"observation.state": 4, "observation.environment_state": 2, "action": 2}
    sizes.pop(without, None)
    features = {key: Feature(dtype="float32", shape=(size,)) for key, size in sizes.items()}
    rng = np.random.default_rng(0)
    episodes = [
        EpisodeFrames(
            task="touch the goal",
            columns={key: rng.random((length, size), np.float32) for key, size in sizes.items()},
        )
        for length in lengths
    ]
    if "action" in sizes:
        episodes[-1].columns["action"][1, 0] = action
    DatasetWriter.create(root, features, fps=10).append(episodes)
    return root


def remove_last_row(data: Path) -> None:
    table = pq.read_table(data / DATA)
    pq.write_table(table.slice(0, table.num_rows - 1), data / DATA)


def declare_three_actions(data: Path) -> None:
    document = json.loads((data / INFO).read_text())
    document["features"]["action"]["shape"] = [3]
    (data / INFO).write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda data: truncate(data / DATA),
            "must be a whole parquet file, got: .*; restore or download",
        ),
        (
            lambda data: truncate(data / EPISODES),
            "must be a whole parquet file, got: .*; restore or download",
        ),
        (
            lambda data: truncate(data / INFO),
            "must be valid JSON, got: .*; restore the file",
        ),
        (
            lambda data: (data / DATA).unlink(),
            "must exist, got no such file; restore or download",
        ),
        (
            lambda data: (data / INFO).unlink(),
            r"must hold a LeRobotDataset v3.0, got no file",
        ),
        (
            remove_last_row,
            "episode 2 .* must have 6 rows in the data files, .*, got 5; restore",
        ),
        (
            declare_three_actions,
            r"action must have the shape \(3,\) .*, got \(2,\) in the data files; correct",
        ),
        (
            lambda data: edit_json(data / INFO, total_frames=14),
            "must count the frames .*, got 14; correct",
        ),
        (
            lambda data: edit_json(data / INFO, total_episodes=9),
            "must list 9 episodes, .*, got 3; restore",
        ),
        (
            lambda data: edit_json(data / INFO, fps=0),
            "got: fps 0, not a number of frames per second",
        ),
        (
            lambda data: edit_json(data / INFO, codebase_version="v1.6"),
            "got 'v1.6'; convert a copy of the data set with",
        ),
        (
            lambda data: remove_key(data / INFO, "features"),
            "must have the key 'features'; restore",
        ),
    ],
)
def test_sft_damaged_data_set_is_refused(
    damage: Damage, sentence: str, tmp_path: Path, capsys: Capture
) -> None:
    data = write_data_set(tmp_path / "data")
    damage(data)
    before = file_contents(data)
    message = refused(capsys, "sft", "--data", data, "--out", tmp_path / "run", *TINY_SFT)
    assert re.search(sentence, message)
    assert str(data) in message
    assert file_contents(data) == before
    assert not (tmp_path / "run").exists()


def write_renamed_data_set(root: Path) -> Path:
    """Write the small data set with the names that others give, and an image that is no camera."""
    write_data_set(root)
    edit = {"observation.state": "state", "action": "actions"}
    document = json.loads((root / INFO).read_text())
    features = {edit.get(key, key): value for key, value in document["features"].items()}
    features["wrist_image"] = {"dtype": "video", "shape": [4, 4, 3], "names": None}
    (root / INFO).write_text(json.dumps({**document, "features": features}))
    table = pq.read_table(root / DATA)
    names = [edit.get(name, name) for name in table.column_names]
    pq.write_table(table.rename_columns(names), root / DATA)
    return root


def test_sft_with_renames_reads_other_names_and_says_what_is_not_read(
    tmp_path: Path, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    data, run = write_renamed_data_set(tmp_path / "data"), tmp_path / "run"
    message = refused(capsys, "sft", "--data", data, "--out", run, *TINY_SFT)
    assert "must have a numeric feature 'action'" in message
    renames = ["--rename", "state=observation.state", "actions=action"]
    main(["sft", "--data", str(data), "--out", str(run), *TINY_SFT, *renames])
    (said,) = caplog.messages
    assert "the images wrist_image are not read" in said
    assert "--rename wrist_image=observation.images.wrist_image makes it one" in said
    assert json.loads((run / "run.json").read_text())["config"]["rename"] == renames[1:]
    main(["sft", "--out", str(run), "--resume"])
    labels = tmp_path / "labels.parquet"
    main(["label", str(data), "--model", str(run), "--out", str(labels), *renames])
    assert pq.read_table(labels).num_rows == 15


def test_sft_without_a_camera_names_the_images_that_are_not_read(
    tmp_path: Path, capsys: Capture
) -> None:
    data = write_renamed_data_set(tmp_path / "data")
    renames = ["--rename", "state=observation.state", "actions=action"]
    message = refused(capsys, "sft", "--data", data, "--out", tmp_path / "run", *renames)
    assert "must have images of a camera" in message
    assert "--rename wrist_image=observation.images.wrist_image makes it one" in message


def test_sft_with_a_completion_cutoff_leaves_still_frames_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, run = write_data_set(tmp_path / "data"), tmp_path / "run"
    dataset = open_dataset(data)
    keys = ("observation.state", "observation.environment_state", "action")
    moved = {key: np.array(dataset.columns[key][:4]) for key in keys}
    columns = {
        key: np.concatenate([values, np.repeat(values[-1:], 9, axis=0)])
        for key, values in moved.items()
    }
    still = EpisodeFrames(task="touch the goal", columns=columns)
    DatasetWriter.resume(data, 3).append([still] * 3)
    sft = ["sft", "--data", str(data), *TINY_SFT]
    main([*sft, "--out", str(run)])
    (said,) = caplog.messages
    caplog.clear()
    assert "3 of 6 demonstrations go on for 27 frames in which nothing moves" in said
    main([*sft, "--out", f"{run}2", "--completion-cutoff", "2"])
    assert not caplog.messages
    split = json.loads((tmp_path / "run2/split.json").read_text())
    assert split == json.loads((run / "split.json").read_text())


def test_sft_of_an_instruction_that_serve_would_not_take_is_refused(
    tmp_path: Path, capsys: Capture
) -> None:
    data = write_data_set(tmp_path / "data")
    table = pq.read_table(data / "meta/tasks.parquet")
    index = table.column_names.index("task")
    long = table.set_column(index, "task", pa.array(["touch " * 200]))
    pq.write_table(long, data / "meta/tasks.parquet")
    message = refused(capsys, "sft", "--data", data, "--out", tmp_path / "run", *TINY_SFT)
    assert "must have at most 1000 characters, as many as nearer serve takes, got 1200" in message
    assert "in episode 0" in message


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"without": "action"}, "must have a numeric feature 'action', got .*; rename"),
        ({"action": np.nan}, "action must be finite, got nan as number 0 in frame 1 of episode 2"),
        ({"action": np.inf}, "action must be finite, got inf as number 0 in frame 1 of episode 2"),
        ({"lengths": (4, 1, 5)}, "must have 2 frames or more, .* got 1 in episode 1; remove"),
        ({"lengths": (4,)}, "--data must hold at least 2 episodes, .*, got 1; record more"),
    ],
)
def test_sft_untrainable_data_set_is_refused(
    options: dict[str, Any], sentence: str, tmp_path: Path, capsys: Capture
) -> None:
    data = write_data_set(tmp_path / "data", **options)
    message = refused(capsys, "sft", "--data", data, "--out", tmp_path / "run", *TINY_SFT)
    assert re.search(sentence, message)
    assert not (tmp_path / "run").exists()


def test_sft_path_without_data_set_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert "must be an existing folder or a hub id 'user/name', got" in refused(
        capsys, "sft", "--data", tmp_path / "none"
    )
    (tmp_path / "file").write_text("no data set")
    assert "must be an existing folder" in refused(capsys, "sft", "--data", tmp_path / "file")
    assert "got no file meta/info.json" in refused(capsys, "sft", "--data", tmp_path)


def test_sft_unreachable_hub_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refused(capsys, "sft", "--data", "nobody/nothing")
    sentence = "'nobody/nothing' must be a folder, or a data set on the hub that can be reached"
    assert sentence in message


def test_sft_unknown_model_is_refused(workspace: Path, capsys: Capture) -> None:
    run = workspace / "run"
    with pytest.raises(SystemExit):
        main(["sft", "--data", str(workspace / "data"), "--model", "mpl", "--out", str(run)])
    assert re.search("must be small-vla, mlp, .*got 'mpl'", capsys.readouterr().err)
    assert not run.exists()


def test_dataset_frames_truncated_video_is_refused(tmp_path: Path) -> None:
    root = Path(shutil.copytree(SAMPLES / "video", tmp_path / "video"))
    (video,) = root.rglob("*.mp4")
    truncate(video)
    dataset = open_dataset(root)
    (camera,) = dataset.videos
    with pytest.raises(DatasetError, match=f"{video.name} must "):
        dataset.frames(camera, np.arange(dataset.info.total_frames))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda run: truncate(run / "run.json"),
            "must be a JSON file of a run, got: .*; name the folder",
        ),
        (
            lambda run: (run / "run.json").write_text("3"),
            "must hold a JSON object, got 3; name the",
        ),
        (
            lambda run: edit_json(run / "run.json", config=[]),
            r"with config an object, got \[\]",
        ),
        (
            lambda run: remove_key(run / "run.json", "format"),
            "made by nearer [0-9.]+, with format None; start a new run, or use that version",
        ),
        (
            lambda run: edit_json(run / "run.json", config={"x": 1}),
            "got: x must be absent, got it beside .*; continue the run with",
        ),
        (
            lambda run: edit_json(run / "run.json", command="improve"),
            "got one of nearer improve; cont",
        ),
    ],
)
def test_sft_resume_damaged_header_is_refused(
    damage: Damage, sentence: str, workspace: Path, capsys: Capture
) -> None:
    run = workspace / "sft"
    damage(run)
    before = file_contents(workspace)
    assert re.search(sentence, refused(capsys, "sft", "--resume", "--out", run))
    assert file_contents(workspace) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--batch-size", "7"], "batch_size = 256, got 7; leave the flag out, or sta"),
        (["--updates", "6144"], "updates = 40, got 6144; leave the flag out, or sta"),
        (["--data", "other"], "with data = .*data, got other; leave the flag out"),
    ],
)
def test_sft_resume_changed_flag_is_refused(
    options: list[str], sentence: str, workspace: Path, capsys: Capture
) -> None:
    before = file_contents(workspace)
    message = refused(capsys, "sft", "--resume", "--out", workspace / "sft", *options)
    assert re.search(sentence, message)
    assert file_contents(workspace) == before


def test_sft_resume_other_demonstrations_is_refused(workspace: Path, capsys: Capture) -> None:
    run, data, backup = workspace / "run", workspace / "data", workspace / "backup"
    main(["sft", "--data", str(data), "--out", str(run), *TINY_SFT])
    (run / "FINISHED").unlink()
    shutil.move(data, backup)
    main(["collect", "--env", ENV_ID, "--episodes", "50", "--seed", "1", "--out", str(data)])
    before = file_contents(run)
    message = refused(capsys, "sft", "--resume", "--out", run)
    assert re.search("data_sha256 must be [0-9a-f]+, as .*run.json says, got .*; restore", message)
    assert file_contents(run) == before
    shutil.rmtree(data)
    shutil.copytree(backup, data)  # a copy is as good as the original
    main(["sft", "--resume", "--out", str(run)])
