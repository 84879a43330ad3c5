"""nearer label: steps-to-go and rewards by a frozen model are written whole or not at all."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from commands.faults import file_contents
from document_values import header
from nearer.algorithm.score import steps_to_go_probabilities
from nearer.algorithm.steps_to_go import expected_steps
from nearer.cli import main
from nearer.commands import label
from nearer.commands.label import run_label
from nearer.configs.label import LabelConfig
from nearer.core.callbacks import Progress
from nearer.core.errors import ConfigError, DatasetError
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.episodes import create_dataset, dataset_spaces
from nearer.datasets.lerobot import parquet
from nearer.datasets.lerobot.progress_sidecar import check_current
from nearer.datasets.lerobot.reader import open_dataset, read_progress
from nearer.datasets.lerobot.writer import EpisodeFrames
from nearer.evaluation.reward_model import load_reward_model
from nearer.models.camera_vision_encoder import CameraVisionEncoder
from nearer.models.factory import build_model, new_model
from nearer.models.settings import SmallVLAConfig
from nearer.runs.checkpoint import load_model, pretrained_folder, save_checkpoint
from nearer.runs.documents import write_header
from nearer.serving.session import ServedPolicy
from refusals import refused

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"


@pytest.fixture
def data(stage_one: Path, tmp_path: Path) -> Path:
    """Return a copy of the demonstrations that a test may label and damage."""
    return Path(shutil.copytree(stage_one / "data", tmp_path / "data"))


def config_of(data: Path, stage_one: Path, **settings: Any) -> LabelConfig:
    """Return settings that label a data set with the Stage-1 reward model."""
    return LabelConfig(data=str(data), model=stage_one / "sft", **settings)


def labels_of(data: Path | str) -> dict[str, Any]:
    """Return the labels that a data set holds."""
    labels = read_progress(open_dataset(data))
    assert labels is not None
    return labels


def test_run_label_columns_equal_the_predictions(data: Path, stage_one: Path) -> None:
    labelled = run_label(config_of(data, stage_one, threshold=10.0))
    dataset, labels = open_dataset(data), labels_of(data)
    assert np.array_equal(labels["index"], dataset.columns["index"])
    assert np.array_equal(labels["episode_index"], dataset.columns["episode_index"])
    model = load_model(stage_one / "sft", build_model, "reward")
    frames = load_demonstrations(dataset)
    probabilities = steps_to_go_probabilities(model, frames.inputs(slice(None)))
    steps_to_go = expected_steps(probabilities, model.bins)
    torch.testing.assert_close(torch.from_numpy(labels["steps_to_go"]), steps_to_go)
    assert np.array_equal(labels["success_detected"], labels["steps_to_go"] <= 10)
    assert labelled.detected.total == len(dataset.episode_lengths)
    assert labelled.frames == len(frames.state)


def test_run_label_returns_discount_the_rewards(data: Path, stage_one: Path) -> None:
    run_label(config_of(data, stage_one, threshold=10.0, discount=0.5))
    labels, length = labels_of(data), int(open_dataset(data).episode_lengths[0])
    steps_to_go, reward, returns = (
        labels[name][:length].astype(np.float64) for name in ("steps_to_go", "reward", "return")
    )
    assert reward[-1] == 0
    np.testing.assert_allclose(reward[:-1], steps_to_go[:-1] - steps_to_go[1:], atol=1e-4)
    expected = [
        sum(0.5 ** (later - row) * reward[later] for later in range(row, length))
        for row in range(length)
    ]
    np.testing.assert_allclose(returns, expected, atol=1e-3)


def test_label_command_prints_a_summary(
    data: Path, stage_one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["label", str(data), "--model", str(stage_one / "sft"), "--threshold", "20"])
    output = capsys.readouterr().out
    for row in ("episodes", "steps-to-go at the start", "last frame detected", "rank correlation"):
        assert row in output
    assert labels_of(data)


def test_run_label_existing_labels_are_replaced_by_overwrite_alone(
    data: Path, stage_one: Path
) -> None:
    run_label(config_of(data, stage_one, threshold=10.0))
    with pytest.raises(DatasetError, match="--overwrite"):
        run_label(config_of(data, stage_one, threshold=50.0))
    run_label(config_of(data, stage_one, threshold=50.0, overwrite=True))
    labels = labels_of(data)
    assert np.array_equal(labels["success_detected"], labels["steps_to_go"] <= 50)


def test_run_label_out_file_leaves_the_data_set_unchanged(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    before = file_contents(data)
    out = tmp_path / "labels.parquet"
    run_label(config_of(data, stage_one, threshold=10.0, out=out))
    assert file_contents(data) == before
    assert out.is_file()


def test_run_label_data_set_of_other_observations_is_refused(
    stage_one: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(SAMPLES / "image", tmp_path / "other"))
    before = file_contents(other)
    with pytest.raises(DatasetError, match="observations of the checkpoint"):
        run_label(config_of(other, stage_one, threshold=10.0))
    assert file_contents(other) == before


def test_run_label_without_any_threshold_is_refused(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    shutil.copytree(stage_one / "sft", tmp_path / "uncalibrated", symlinks=True)
    (tmp_path / "uncalibrated/calibration.json").unlink()
    with pytest.raises(ConfigError, match="--threshold"):
        run_label(LabelConfig(data=str(data), model=tmp_path / "uncalibrated"))
    assert read_progress(open_dataset(data)) is None


def test_run_label_hub_data_set_without_out_file_is_refused(stage_one: Path) -> None:
    with pytest.raises(ConfigError, match="--out must name a file for a data set that is on the"):
        run_label(config_of(Path("user/name"), stage_one, threshold=10.0))


def test_run_label_missing_data_set_is_refused(stage_one: Path) -> None:
    with pytest.raises(DatasetError, match="existing folder or a hub id"):
        run_label(config_of(Path("nothing"), stage_one, threshold=10.0))


def test_run_label_full_disk_keeps_earlier_labels(
    data: Path, stage_one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_label(config_of(data, stage_one, threshold=10.0))
    before = file_contents(data)

    def fail_half_way(handle: Any, *_: object) -> int:
        handle.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_tables", fail_half_way)
    with pytest.raises(DatasetError, match="No space left on device; nothing was changed"):
        run_label(config_of(data, stage_one, threshold=50.0, overwrite=True))
    assert file_contents(data) == before


def test_run_label_file_records_settings_and_weights(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.parquet"
    run_label(config_of(data, stage_one, threshold=10.0, discount=0.5, out=out))
    settings = json.loads(pq.read_schema(out).metadata[b"nearer"])
    assert (settings["threshold_steps"], settings["discount"]) == (10.0, 0.5)
    assert len(settings["weights_sha256"]) == len(settings["data_sha256"]) == 64
    assert (settings["model"], settings["unit"]) == ("MLP", "control steps")
    assert settings["version"] == version("nearer")
    made_at = datetime.fromisoformat(settings["made_at"])
    assert timedelta() <= datetime.now(UTC) - made_at < timedelta(minutes=5)


def test_run_label_practice_data_set_is_never_overwritten(stage_one: Path, tmp_path: Path) -> None:
    spaces = dataset_spaces(open_dataset(stage_one / "data"))
    writer = create_dataset(tmp_path / "practice", spaces, fps=10, robot_type="point mass")
    columns = {
        "observation.state": np.zeros((3, 4), np.float32),
        "observation.environment_state": np.zeros((3, 2), np.float32),
        "action": np.zeros((3, 2), np.float32),
        "next.done": np.zeros(3, bool),
    }
    progress = {"steps_to_go": np.ones(3, np.float32), "log_prob": np.zeros(3, np.float32)}
    for _ in range(2):
        writer.append([EpisodeFrames(task="touch the goal", columns=columns)], [progress])
    config = config_of(tmp_path / "practice", stage_one, threshold=9.0, overwrite=True)
    with pytest.raises(DatasetError, match=r"no sidecar of its practice.*--out FILE"):
        run_label(config)
    sidecars = tmp_path / "practice/nearer_progress/chunk-000"
    for out in (sidecars / "file-001.parquet", sidecars / "../chunk-000/file-000.parquet"):
        with pytest.raises(DatasetError, match="no sidecar of its practice"):
            run_label(replace(config, out=out))
    assert labels_of(tmp_path / "practice")["steps_to_go"].tolist() == [1.0] * 6


def test_run_label_out_of_other_content_is_never_overwritten(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    frames, note = data / "data/chunk-000/file-000.parquet", tmp_path / "note.txt"
    note.write_text("mine")
    before = file_contents(tmp_path)
    for out in (frames, note, tmp_path):
        with pytest.raises(DatasetError, match="which is not replaced"):
            run_label(config_of(data, stage_one, threshold=10.0, out=out, overwrite=True))
    assert file_contents(tmp_path) == before


def test_run_label_file_written_meanwhile_is_kept(
    data: Path, stage_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, other = tmp_path / "labels.parquet", tmp_path / "other.parquet"
    frame_labels = label.frame_labels

    def label_twice(*arguments: Any, **settings: Any) -> Any:
        monkeypatch.setattr(label, "frame_labels", frame_labels)
        run_label(config_of(data, stage_one, threshold=10.0, out=other))
        shutil.copyfile(other, out)  # as a program does that knows no locks
        return frame_labels(*arguments, **settings)

    monkeypatch.setattr(label, "frame_labels", label_twice)
    with pytest.raises(DatasetError, match="--overwrite"):
        run_label(config_of(data, stage_one, threshold=50.0, out=out))
    assert json.loads(parquet.notes_of(out)["nearer"])["threshold_steps"] == 10.0


@pytest.fixture
def camera_config(request: pytest.FixtureRequest, tmp_path: Path) -> LabelConfig:
    """Return settings that label a data set of lerobot with a model that has a vision encoder."""
    storage = getattr(request, "param", "image")
    root = Path(shutil.copytree(SAMPLES / storage, tmp_path / "cameras"))
    dataset = open_dataset(root)
    sizes = SmallVLAConfig(hidden=16)
    model = new_model("small-vla", sizes, dataset_spaces(dataset), dataset.tasks, seed=0)
    data = load_demonstrations(dataset, model.vision_encoder, cache=tmp_path / "first")
    model.normalise_by(data.inputs(slice(None)), data.actions)
    with torch.no_grad():
        model.get_parameter("steps_head.weight").mul_(30)  # untrained, it predicts the same for all
    save_checkpoint(tmp_path / "000001", model, None)
    return LabelConfig(
        data=str(root), model=tmp_path / "000001", threshold=3.0, cache=tmp_path / "cache"
    )


@pytest.mark.parametrize("camera_config", ["image", "video"], indirect=True)
def test_run_label_camera_images_equal_a_served_policy(camera_config: LabelConfig) -> None:
    assert run_label(camera_config).frames == 48
    dataset, labels = open_dataset(camera_config.data), labels_of(camera_config.data)
    model = load_model(camera_config.model, build_model, "reward")
    policy = ServedPolicy(model, model, None, seed=0)
    served: list[float] = []
    starts, camera = dataset.episode_starts[:2], "observation.images.top"
    for start, length in zip(starts, dataset.episode_lengths[:2], strict=True):
        session = policy.new_session(0)
        task = dataset.tasks[dataset.columns["task_index"][start]]
        for row in range(start, start + length):
            message = {
                "observation.state": dataset.columns["observation.state"][row],
                camera: dataset.frames(camera, np.array([row]))[0],
                "prompt": task,
                "act": False,
            }
            served.append(policy.respond(session, message).steps_to_go)
    # An image encoded in a batch and one encoded alone differ in their last bits.
    difference = np.abs(labels["steps_to_go"][: len(served)] - served)
    assert difference.max() < 0.05 * np.ptp(served)


def fail_to_encode(*_: object) -> None:
    raise AssertionError("an image was encoded")


def stop_before_labelling(progress: Progress) -> None:
    if progress.stage == "labelling":
        raise KeyboardInterrupt


def test_run_label_after_interrupt_reuses_encoded_images(
    camera_config: LabelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_label(camera_config, stop_before_labelling)
    assert read_progress(open_dataset(camera_config.data)) is None
    monkeypatch.setattr(CameraVisionEncoder, "encode", fail_to_encode)
    run_label(camera_config)
    assert labels_of(camera_config.data)


KILLED_PROGRAM = """
import os, signal
from pathlib import Path
from nearer.commands import label
from nearer.configs.label import LabelConfig
label.ROWS_A_PART = {rows_a_part}
def kill(progress):
    if progress.stage == "labelling" and progress.done >= {frames}:
        os.kill(os.getpid(), signal.SIGKILL)
label.run_label(LabelConfig(data={data!r}, model=Path({model!r}), cache=Path({cache!r})), kill)
"""


def test_run_label_killed_continues_where_it_was(
    data: Path, stage_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(data, stage_one, cache=tmp_path / "cache")
    monkeypatch.setattr(label, "ROWS_A_PART", 100)
    code = KILLED_PROGRAM.format(
        rows_a_part=100,
        frames=250,
        data=config.data,
        model=str(config.model),
        cache=str(config.cache),
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_progress(open_dataset(data)) is None
    predicted: list[int] = []
    predict = label.predict_steps_to_go

    def counted(model: Any, inputs: Any) -> Any:
        predicted.append(len(inputs))
        return predict(model, inputs)

    monkeypatch.setattr(label, "predict_steps_to_go", counted)
    frames = run_label(config).frames
    assert frames > 400
    assert sum(predicted) == frames - 300  # three parts were whole
    continued = labels_of(data)
    run_label(replace(config, overwrite=True, cache=tmp_path / "other"))
    for name, column in labels_of(data).items():
        assert np.array_equal(continued[name], column), name
    assert not list((tmp_path / "cache").rglob("*.npy"))  # nothing is kept of what is written


def test_run_label_model_of_other_inputs_is_refused_before_encoding(
    camera_config: LabelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CameraVisionEncoder, "encode", fail_to_encode)
    dataset = open_dataset(camera_config.data)
    spaces = dataset_spaces(dataset)
    wrist = spaces.cameras[0]._replace(name="wrist")
    models = [
        (("push the moon",), spaces, "must use words of the demonstrations"),
        (
            dataset.tasks,
            replace(spaces, cameras=(wrist,)),
            "must have the camera wrist 96x128 of the checkpoint, got top 96x128",
        ),
        (
            dataset.tasks,
            replace(spaces, control_hz=5),
            "must be controlled at the 5 Hz of the checkpoint, got 10 Hz",
        ),
    ]
    for tasks, model_spaces, sentence in models:
        model = new_model("small-vla", SmallVLAConfig(hidden=16), model_spaces, tasks, seed=0)
        save_checkpoint(tmp_path / "000002", model, None)
        with pytest.raises((ConfigError, DatasetError), match=sentence):
            run_label(replace(camera_config, model=tmp_path / "000002"))


def test_load_reward_model_practised_policy_uses_its_stage_one_run(
    stage_one: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(stage_one / "sft", tmp_path / "practised", symlinks=True))
    (run / "calibration.json").unlink()
    config = {"run": str(stage_one / "sft"), "reward": None}
    write_header(run, header("improve", config))
    for checkpoint in (run, run / "checkpoints/policy"):
        reward_model = load_reward_model(checkpoint, None, None)
        assert reward_model.weights == pretrained_folder(stage_one / "sft", "reward")
        assert reward_model.threshold_steps is not None
    write_header(run, header("improve", config | {"run": str(tmp_path / "gone")}))
    with pytest.raises(ConfigError, match=r"practised with must be there, got .*--reward RUN"):
        load_reward_model(run, None, None)
    assert load_reward_model(run, stage_one / "sft", 2.0).threshold_steps == 2.0


def test_export_labels_of_an_earlier_recording_are_refused(
    data: Path, stage_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rerun")
    run_label(config_of(data, stage_one, threshold=10.0))
    check_current(open_dataset(data))
    table = next((data / "data").rglob("*.parquet"))
    columns = parquet.read_columns(table)
    columns["action"] = -columns["action"]
    changed = {name: parquet.fixed_lists(values) for name, values in columns.items()}
    with table.open("wb") as handle:
        parquet.write_tables(handle, [parquet.noted_table(changed, {})])
    message = refused(capsys, "export", data, "--out", tmp_path / "out.rrd")
    assert "got those of an earlier recording" in message
    run_label(config_of(data, stage_one, threshold=10.0, overwrite=True))
    check_current(open_dataset(data))
