"""nearer export: a rerun recording holds a data set's values and a model's, frame by frame."""

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

from commands.tiny_runs import SHORT_IMPROVE
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

Capture = pytest.CaptureFixture[str]
Columns = dict[str, dict[str, list[Any]]]


def read_recording(path: Path) -> Columns:
    """Return, by entity, every column of a recording as rows in the order of its frames."""
    recording: Columns = {}
    for part in chunk.RrdReader(path).stream():
        batch = part.to_record_batch()
        columns = recording.setdefault(part.entity_path.lstrip("/"), {})
        for name in batch.schema.names:
            column = batch.column(name)
            values = column.cast(pa.int64()) if name == "seconds" else column
            columns.setdefault(name, []).extend(values.to_pylist())
    return recording


def recording_id(path: Path) -> str:
    return chunk.RrdReader(path).recordings()[0].recording_id


def numbers(columns: dict[str, list[Any]]) -> np.ndarray[Any, Any]:
    return np.array(columns["Scalars:scalars"])


def seconds(columns: dict[str, list[Any]]) -> list[float]:
    return [nanoseconds / 1e9 for nanoseconds in columns["seconds"]]


@pytest.fixture(scope="module")
def practised_run(stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("practised") / "run"
    main(["improve", "--run", str(stage_one / "sft"), *SHORT_IMPROVE, "--out", str(run)])
    return run


def check_numbers(recording: Columns, dataset: Dataset, episode: int) -> None:
    """Check times, state and action of an episode."""
    start, length = dataset.episode_starts[episode], int(dataset.episode_lengths[episode])
    rows = slice(start, start + length)
    root = entity_of(episode)
    state = recording[f"{root}/state"]
    assert state["frame"] == list(range(length))
    assert seconds(state) == pytest.approx(dataset.columns["timestamp"][rows], abs=1e-6)
    assert np.allclose(numbers(state), dataset.columns["observation.state"][rows])
    action = numbers(recording[f"{root}/action"])
    assert np.allclose(action, dataset.columns["action"][rows][:-1]), "the last frame has no action"
    instruction = recording[f"{root}/instruction"]["TextDocument:text"]
    assert instruction == [[dataset.task_of_episode(episode)]]


def test_export_practised_run_contains_recorded_steps_to_go(
    practised_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep/episodes.rrd"
    main(["export", str(practised_run), "--out", str(out), "--episodes", "2", "0"])
    recording, dataset = read_recording(out), open_dataset(practised_run / "practice")
    episodes = {entity_of(0), entity_of(2)}
    assert {name.split("/")[0] for name in recording} == {"__properties", *episodes}
    progress = read_progress(dataset)
    assert progress is not None
    for episode in (0, 2):
        check_numbers(recording, dataset, episode)
        rows, root = progress["episode_index"] == episode, entity_of(episode)
        steps_to_go = numbers(recording[f"{root}/steps_to_go/mean"])[:, 0]
        assert np.allclose(steps_to_go, progress["steps_to_go"][rows])
        names = [f"{root}/steps_to_go/{name}" for name in ("p10", "p50", "p90")]
        quantiles = [numbers(recording[name])[:, 0] for name in names]
        assert np.allclose(np.stack(quantiles, axis=1), progress["quantiles"][rows])
        reward = numbers(recording[f"{root}/reward"])[:, 0]
        assert np.allclose(reward, steps_to_go[:-1] - steps_to_go[1:], atol=1e-4), "eq. 2"
        detected = numbers(recording[f"{root}/success_detected"])[:, 0]
        assert detected.tolist() == progress["success_detected"][rows].tolist()


def test_export_with_model_contains_its_predictions(stage_one: Path, tmp_path: Path) -> None:
    out, data, run = tmp_path / "a.rrd", stage_one / "data", stage_one / "sft"
    main(["export", str(data), "--out", str(out), "--episodes", "3", "--model", str(run)])
    dataset = open_dataset(data)
    recording = read_recording(out)
    check_numbers(recording, dataset, 3)
    model = load_model(run, build_model, "reward")
    inputs = load_demonstrations(dataset, episodes=np.array([3])).inputs(slice(None))
    with torch.inference_mode():
        expected = model.steps_to_go_logits(inputs).softmax(dim=-1) @ model.bins.edges()
    root = entity_of(3)
    steps_to_go = numbers(recording[f"{root}/steps_to_go/mean"])[:, 0]
    assert np.allclose(steps_to_go, expected, atol=1e-4)
    bars = recording[f"{root}/distribution"]
    assert bars["frame"] == list(range(len(expected)))
    probabilities = np.array([rows[0]["buffer"] for rows in bars["BarChart:values"]])
    steps = np.array([rows[0]["buffer"] for rows in bars["BarChart:abscissa"]])
    assert np.allclose((probabilities * steps).sum(axis=1), expected, atol=1e-3)
    assert f"{root}/success_detected" in recording, "the run has a threshold"


def test_export_stage_one_run_equals_its_data_with_its_model(
    stage_one: Path, tmp_path: Path
) -> None:
    data, run = str(stage_one / "data"), str(stage_one / "sft")
    with_model, of_run, without_model = (tmp_path / f"{name}.rrd" for name in "abc")
    main(["export", data, "--out", str(with_model), "--episodes", "3", "--model", run])
    main(["export", run, "--out", str(of_run), "--episodes", "3"])
    main(["export", data, "--out", str(without_model), "--episodes", "3"])
    assert read_recording(of_run).keys() == read_recording(with_model).keys()
    assert recording_id(of_run) == recording_id(with_model)
    assert recording_id(without_model) != recording_id(with_model), "a viewer would merge them"


def test_export_without_model_says_how_to_add_one(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "a.rrd"
    main(["export", str(stage_one / "data"), "--out", str(out)])
    assert "pass --model RUN" in capsys.readouterr().out
    recording = read_recording(out)
    assert len({name.split("/")[0] for name in recording} - {"__properties"}) == 10
    assert not any("steps_to_go" in name for name in recording)


def camera_dataset(root: Path, camera: str) -> Dataset:
    """Return two episodes of three frames whose images grow brighter."""
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


def test_write_recording_contains_images_names_and_instruction(tmp_path: Path) -> None:
    dataset = camera_dataset(tmp_path / "data", "left hand")
    write_recording(tmp_path / "a.rrd", dataset, [1], {})
    recording = read_recording(tmp_path / "a.rrd")
    root = entity_of(1)
    (camera,) = (name for name in recording if "cameras" in name)
    blobs = [bytes(blob) for (blob,) in recording[camera]["EncodedImage:blob"]]
    shades = [np.asarray(Image.open(io.BytesIO(blob))).mean() for blob in blobs]
    assert shades == pytest.approx([20, 120, 220], abs=2)
    assert recording[camera]["frame"] == [0, 1, 2]
    assert recording[f"{root}/state"]["SeriesLines:names"] == [["left", "right"]]
    assert recording[f"{root}/instruction"]["TextDocument:text"] == [["wave\n# at me"]]
    assert recording[f"{root}/instruction"]["TextDocument:media_type"] == [["text/plain"]]


def test_recorded_predictions_episode_without_progress_is_left_out(tmp_path: Path) -> None:
    dataset = camera_dataset(tmp_path / "data", "front")
    rows = np.array([3, 4, 5])  # of the second episode
    progress = {
        "index": rows,
        "steps_to_go": np.array([2.0, 1.0, 0.5]),
        "quantiles": np.ones((3, 3)),
        "reward": np.array([1.0, 0.5, 0.0]),
        "success_detected": np.array([0, 0, 1]),
    }
    predictions = recorded_predictions(dataset, progress)
    assert predictions.keys() == {1}
    second: FramePredictions = predictions[1]
    assert second.rewards.tolist() == [1.0, 0.5]
    assert second.solved is not None
    assert second.solved.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "a.mp4"], "--out must end in .rrd"),
        (["--episodes", "0", "50"], "got [50]; count from 0"),
        (["--episodes", "-1"], "got [-1]; count from 0"),
        (["--model", "nowhere/at/all"], "nowhere/at/all must be a run or a checkpoint"),
    ],
)
def test_export_unusable_option_is_refused(
    options: list[str], sentence: str, stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    command = ["export", stage_one / "data", "--out", tmp_path / "a.rrd", *options]
    assert sentence in refused(capsys, *command)
    assert not list(tmp_path.iterdir())


def test_export_model_of_other_sizes_is_refused(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    camera_dataset(tmp_path / "data", "front")
    out, run = tmp_path / "a.rrd", stage_one / "sft"
    message = refused(capsys, "export", tmp_path / "data", "--out", out, "--model", run)
    assert "must have the observations of --model" in message


def test_export_missing_package_is_refused(
    stage_one: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun.blueprint", None)
    message = refused(capsys, "export", stage_one / "data", "--out", tmp_path / "a.rrd")
    assert "pip install 'nearer[rerun]'" in message


def test_write_recording_full_disk_keeps_the_old_file(
    stage_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rerun

    out = tmp_path / "a.rrd"
    out.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to write: No space left on device")

    monkeypatch.setattr(rerun.RecordingStream, "flush", fail)
    with pytest.raises(NearerError, match="No space left on device"):
        write_recording(out, open_dataset(stage_one / "data"), [0], {})
    assert out.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.rrd"]


def test_export_damaged_calibration_is_refused(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = shutil.copytree(stage_one / "sft", tmp_path / "sft", symlinks=True)
    (run / "calibration.json").write_text('{"threshold_steps": "few"}')
    assert "must name threshold_steps" in refused(
        capsys, "export", stage_one / "data", "--out", tmp_path / "a.rrd", "--model", run
    )
