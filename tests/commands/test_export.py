"""A rerun recording holds what the data set and the model say, frame by frame."""

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from nearer.cli import main
from nearer.core.errors import NearerError
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.lerobot.reader import Dataset, open_dataset, read_progress
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames
from nearer.models.factory import build_model
from nearer.reporting.rerun_export import (
    FramePredictions,
    entity_of,
    recorded_predictions,
    write_recording,
)
from nearer.runs.checkpoint import load_model
from refusals import refused

chunk = pytest.importorskip("rerun.chunk")
ENV_ID = "nearer/PointMass-v0"
TINY_IMPROVE = [
    *("--env", ENV_ID, "--num-envs", "4", "--threshold", "20", "--max-steps", "30"),
    *("--updates-per-iteration", "1", "--batch-size", "32", "--max-env-steps", "300"),
    *("--block-iterations", "1", "--audit-every", "1"),
]  # fmt: skip
Capture = pytest.CaptureFixture[str]
Columns = dict[str, dict[str, list[Any]]]


def read(path: Path) -> Columns:
    """Return, by entity, every column of a recording as rows in the order of its frames."""
    found: Columns = {}
    for one in chunk.RrdReader(path).stream():
        batch = one.to_record_batch()
        columns = found.setdefault(one.entity_path.lstrip("/"), {})
        for name in batch.schema.names:
            column = batch.column(name)
            values = column.cast(pa.int64()) if name == "seconds" else column
            columns.setdefault(name, []).extend(values.to_pylist())
    return found


def identity(path: Path) -> str:
    return chunk.RrdReader(path).recordings()[0].recording_id


def numbers(columns: dict[str, list[Any]]) -> np.ndarray[Any, Any]:
    return np.array(columns["Scalars:scalars"])


def seconds(columns: dict[str, list[Any]]) -> list[float]:
    return [nanoseconds / 1e9 for nanoseconds in columns["seconds"]]


@pytest.fixture(scope="module")
def practised(stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("practised") / "run"
    main(["improve", "--run", str(stage_one / "sft"), *TINY_IMPROVE, "--out", str(root)])
    return root


def check_numbers(found: Columns, dataset: Dataset, episode: int) -> None:
    """Check times, state and action of an episode."""
    start, length = dataset.episode_starts[episode], int(dataset.episode_lengths[episode])
    rows = slice(start, start + length)
    root = entity_of(episode)
    state = found[f"{root}/state"]
    assert state["frame"] == list(range(length))
    assert seconds(state) == pytest.approx(dataset.columns["timestamp"][rows], abs=1e-6)
    assert np.allclose(numbers(state), dataset.columns["observation.state"][rows])
    action = numbers(found[f"{root}/action"])
    assert np.allclose(action, dataset.columns["action"][rows][:-1]), "the last was never taken"
    assert found[f"{root}/instruction"]["TextDocument:text"] == [[dataset.task_of_episode(episode)]]


def test_practised_episodes_show_what_was_recorded(practised: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep/episodes.rrd"
    main(["export", str(practised), "--out", str(out), "--episodes", "2", "0"])
    found, dataset = read(out), open_dataset(practised / "practice")
    assert {name.split("/")[0] for name in found} == {"__properties", entity_of(0), entity_of(2)}
    progress = read_progress(dataset)
    assert progress is not None
    for episode in (0, 2):
        check_numbers(found, dataset, episode)
        rows, root = progress["episode_index"] == episode, entity_of(episode)
        d = numbers(found[f"{root}/steps_to_go/mean"])[:, 0]
        assert np.allclose(d, progress["steps_to_go"][rows])
        quantiles = [numbers(found[f"{root}/steps_to_go/{p}"])[:, 0] for p in ("p10", "p50", "p90")]
        assert np.allclose(np.stack(quantiles, axis=1), progress["quantiles"][rows])
        reward = numbers(found[f"{root}/reward"])[:, 0]
        assert np.allclose(reward, d[:-1] - d[1:], atol=1e-4), "eq. 2"
        detected = numbers(found[f"{root}/success_detected"])[:, 0]
        assert detected.tolist() == progress["success_detected"][rows].tolist()


def test_a_model_says_how_many_steps_are_left_in_demonstrations(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, data, run = tmp_path / "a.rrd", stage_one / "data", stage_one / "sft"
    main(["export", str(data), "--out", str(out), "--episodes", "3", "--model", str(run)])
    dataset = open_dataset(data)
    found = read(out)
    check_numbers(found, dataset, 3)
    model = load_model(run, build_model, "reward")
    inputs = load_demonstrations(dataset, episodes=np.array([3])).inputs(slice(None))
    with torch.inference_mode():
        d = model.steps_to_go_logits(inputs).softmax(dim=-1) @ model.bins.edges()
    root = entity_of(3)
    assert np.allclose(numbers(found[f"{root}/steps_to_go/mean"])[:, 0], d, atol=1e-4)
    bars = found[f"{root}/distribution"]
    assert bars["frame"] == list(range(len(d)))
    likely = np.array([one[0]["buffer"] for one in bars["BarChart:values"]])
    steps = np.array([one[0]["buffer"] for one in bars["BarChart:abscissa"]])
    assert np.allclose((likely * steps).sum(axis=1), d, atol=1e-3)
    assert f"{root}/success_detected" in found, "the run has a threshold"
    again = tmp_path / "b.rrd"
    main(["export", str(run), "--out", str(again), "--episodes", "3"])
    assert read(again).keys() == found.keys(), "a Stage-1 run means its data and its reward"
    bare = tmp_path / "c.rrd"
    main(["export", str(data), "--out", str(bare), "--episodes", "3"])
    first, same, other = (identity(one) for one in (out, again, bare))
    assert first == same != other, "a viewer shows two recordings of one name as one"


def test_without_a_model_the_command_says_what_is_missing(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "a.rrd"
    main(["export", str(stage_one / "data"), "--out", str(out)])
    assert "pass --model RUN" in capsys.readouterr().out
    found = read(out)
    assert len({name.split("/")[0] for name in found} - {"__properties"}) == 10
    assert not any("steps_to_go" in name for name in found)


def seen_dataset(root: Path, camera: str) -> Dataset:
    """Return two episodes of three frames whose pictures grow brighter."""
    features = {
        "observation.state": Feature(dtype="float32", shape=(2,), names=["left", "right"]),
        f"observation.images.{camera}": Feature(dtype="image", shape=(16, 24, 3)),
        "action": Feature(dtype="float32", shape=(1,)),
    }
    writer = DatasetWriter.create(root, features, 10, "arm")
    shades = np.array([20, 120, 220], dtype=np.uint8)
    episode = EpisodeFrames(
        task="wave\n# at me",
        columns={
            "observation.state": np.arange(6, dtype=np.float32).reshape(3, 2),
            f"observation.images.{camera}": np.tile(shades[:, None, None, None], (1, 16, 24, 3)),
            "action": np.ones((3, 1), dtype=np.float32),
        },
    )
    writer.append([episode, episode])
    return open_dataset(root)


def test_pictures_and_names_are_the_data_sets(tmp_path: Path) -> None:
    dataset = seen_dataset(tmp_path / "data", "left hand")
    write_recording(tmp_path / "a.rrd", dataset, [1], {})
    found = read(tmp_path / "a.rrd")
    root = entity_of(1)
    (camera,) = (name for name in found if "cameras" in name)
    blobs = [bytes(blob) for (blob,) in found[camera]["EncodedImage:blob"]]
    shades = [np.asarray(Image.open(io.BytesIO(blob))).mean() for blob in blobs]
    assert shades == pytest.approx([20, 120, 220], abs=2)
    assert found[camera]["frame"] == [0, 1, 2]
    assert found[f"{root}/state"]["SeriesLines:names"] == [["left", "right"]]
    assert found[f"{root}/instruction"]["TextDocument:text"] == [["wave\n# at me"]]
    assert found[f"{root}/instruction"]["TextDocument:media_type"] == [["text/plain"]]


def test_episodes_without_progress_are_left_out(tmp_path: Path) -> None:
    dataset = seen_dataset(tmp_path / "data", "front")
    rows = np.array([3, 4, 5])  # of the second episode
    progress = {
        "index": rows,
        "steps_to_go": np.array([2.0, 1.0, 0.5]),
        "quantiles": np.ones((3, 3)),
        "reward": np.array([1.0, 0.5, 0.0]),
        "success_detected": np.array([0, 0, 1]),
    }
    judged = recorded_predictions(dataset, progress)
    assert judged.keys() == {1}
    one: FramePredictions = judged[1]
    assert one.rewards.tolist() == [1.0, 0.5]
    assert one.solved is not None
    assert one.solved.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "a.mp4"], "--out must end in .rrd"),
        (["--episodes", "0", "50"], "got [50]; count from 0"),
        (["--episodes", "-1"], "got [-1]; count from 0"),
        (["--model", "nowhere/at/all"], "nowhere/at/all must be a run or a checkpoint"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(
    arguments: list[str], said: str, stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    command = ["export", stage_one / "data", "--out", tmp_path / "a.rrd", *arguments]
    assert said in refused(capsys, *command)
    assert not list(tmp_path.iterdir())


def test_a_model_for_other_sizes_is_a_sentence(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    seen_dataset(tmp_path / "data", "front")
    out, run = tmp_path / "a.rrd", stage_one / "sft"
    said = refused(capsys, "export", tmp_path / "data", "--out", out, "--model", run)
    assert "must have the observations of --model" in said


def test_a_missing_package_is_a_sentence(
    stage_one: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun.blueprint", None)
    said = refused(capsys, "export", stage_one / "data", "--out", tmp_path / "a.rrd")
    assert "pip install 'nearer[rerun]'" in said


def test_a_disk_that_does_not_take_it_leaves_the_old_file(
    stage_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rerun

    out = tmp_path / "a.rrd"
    out.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to write: No space left on device")

    monkeypatch.setattr(rerun.RecordingStream, "flush", full)
    with pytest.raises(NearerError, match="No space left on device"):
        write_recording(out, open_dataset(stage_one / "data"), [0], {})
    assert out.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.rrd"]


def test_a_damaged_calibration_is_a_sentence(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = shutil.copytree(stage_one / "sft", tmp_path / "sft", symlinks=True)
    (run / "calibration.json").write_text('{"threshold_steps": "few"}')
    assert "must name threshold_steps" in refused(
        capsys, "export", stage_one / "data", "--out", tmp_path / "a.rrd", "--model", run
    )
