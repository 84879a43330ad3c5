"""nearer label: what a frozen model says of a data set, beside its frames, whole or not at all."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

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
from nearer.models.factory import build_model, new_model
from nearer.models.settings import SmallVLAConfig
from nearer.models.small_vla import CameraVisionEncoder
from nearer.runs.checkpoint import load_model, pretrained_folder, save_checkpoint
from nearer.runs.documents import write_header
from nearer.serving.session import ServedPolicy

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"
SAMPLE = SAMPLES / "image"


@pytest.fixture
def data(stage_one: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stage_one / "data", tmp_path / "data"))


def config_of(data: Path, stage_one: Path, **settings: object) -> LabelConfig:
    return LabelConfig(data=str(data), model=stage_one / "sft", **settings)  # type: ignore[arg-type]


def files(root: Path) -> set[Path]:
    return {one.relative_to(root) for one in root.rglob("*") if one.is_file()}


def test_labels_are_what_the_reward_model_says(data: Path, stage_one: Path) -> None:
    labelled = run_label(config_of(data, stage_one, threshold=10.0, discount=0.5))
    dataset = open_dataset(data)
    found = read_progress(dataset)
    assert found is not None
    assert np.array_equal(found["index"], dataset.columns["index"])
    assert np.array_equal(found["episode_index"], dataset.columns["episode_index"])
    model = load_model(stage_one / "sft", build_model, "reward")
    frames = load_demonstrations(dataset)
    probabilities = steps_to_go_probabilities(model, frames.inputs(slice(None)))
    d = expected_steps(probabilities, model.bins)
    torch.testing.assert_close(torch.from_numpy(found["steps_to_go"]), d)
    assert np.array_equal(found["success_detected"], found["steps_to_go"] <= 10)
    cut = int(dataset.episode_lengths[0])
    first, reward, returns = (
        found[name][:cut].astype(np.float64) for name in ("steps_to_go", "reward", "return")
    )
    assert reward[-1] == 0
    np.testing.assert_allclose(reward[:-1], first[:-1] - first[1:], atol=1e-4)
    by_hand = [sum(0.5 ** (i - t) * reward[i] for i in range(t, cut)) for t in range(cut)]
    np.testing.assert_allclose(returns, by_hand, atol=1e-3)
    assert labelled.detected.total == len(dataset.episode_lengths)
    assert labelled.frames == len(frames.state)


def test_the_command_tells_in_short_what_it_wrote(
    data: Path, stage_one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["label", str(data), "--model", str(stage_one / "sft"), "--threshold", "20"])
    told = capsys.readouterr().out
    for part in ("episodes", "steps-to-go at the start", "last frame detected", "rank correlation"):
        assert part in told
    assert read_progress(open_dataset(data)) is not None


def test_labels_that_are_there_are_kept_unless_they_shall_go(data: Path, stage_one: Path) -> None:
    run_label(config_of(data, stage_one, threshold=10.0))
    with pytest.raises(DatasetError, match="--overwrite"):
        run_label(config_of(data, stage_one, threshold=50.0))
    run_label(config_of(data, stage_one, threshold=50.0, overwrite=True))
    found = read_progress(open_dataset(data))
    assert found is not None
    assert np.array_equal(found["success_detected"], found["steps_to_go"] <= 50)


def test_a_file_of_ones_own_leaves_the_data_set_alone(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    before = files(data)
    out = tmp_path / "labels.parquet"
    run_label(config_of(data, stage_one, threshold=10.0, out=out))
    assert files(data) == before
    assert out.is_file()


def test_what_does_not_fit_is_refused_and_nothing_is_written(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(SAMPLE, tmp_path / "other"))
    before = files(other)
    with pytest.raises(DatasetError, match="observations of the checkpoint"):
        run_label(config_of(other, stage_one, threshold=10.0))
    assert files(other) == before
    (tmp_path / "run").mkdir()
    shutil.copytree(stage_one / "sft", tmp_path / "uncalibrated", symlinks=True)
    (tmp_path / "uncalibrated/calibration.json").unlink()
    with pytest.raises(ConfigError, match="--threshold"):
        run_label(LabelConfig(data=str(data), model=tmp_path / "uncalibrated"))
    assert read_progress(open_dataset(data)) is None


def test_a_data_set_of_the_hub_needs_a_file_for_its_labels(stage_one: Path) -> None:
    with pytest.raises(ConfigError, match="--out must name a file for a data set that is on the"):
        run_label(config_of(Path("user/name"), stage_one, threshold=10.0))
    with pytest.raises(DatasetError, match="existing folder or a hub id"):
        run_label(config_of(Path("nothing"), stage_one, threshold=10.0))


def test_a_full_disk_leaves_the_earlier_labels(
    data: Path, stage_one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_label(config_of(data, stage_one, threshold=10.0))
    before = {name: (data / name).read_bytes() for name in files(data)}

    def fill_the_disk(handle: Any, *_: object) -> int:
        handle.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_tables", fill_the_disk)
    with pytest.raises(DatasetError, match="No space left on device; nothing was changed"):
        run_label(config_of(data, stage_one, threshold=50.0, overwrite=True))
    assert {name: (data / name).read_bytes() for name in files(data)} == before


def test_what_made_the_labels_stands_in_the_file(
    data: Path, stage_one: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.parquet"
    run_label(config_of(data, stage_one, threshold=10.0, discount=0.5, out=out))
    made_by = json.loads(pq.read_schema(out).metadata[b"nearer"])
    assert (made_by["threshold_steps"], made_by["discount"]) == (10.0, 0.5)
    assert len(made_by["weights_sha256"]) == 64


def test_what_practice_wrote_is_never_replaced(stage_one: Path, tmp_path: Path) -> None:
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
    second = tmp_path / "practice/nearer_progress/chunk-000/file-001.parquet"
    for place in (second, second.with_name("..") / "chunk-000/file-000.parquet"):
        with pytest.raises(DatasetError, match="no sidecar of its practice"):
            run_label(replace(config, out=place))
    found = read_progress(open_dataset(tmp_path / "practice"))
    assert found is not None
    assert found["steps_to_go"].tolist() == [1.0] * 6


def test_nothing_but_labels_is_replaced(data: Path, stage_one: Path, tmp_path: Path) -> None:
    frames, note = data / "data/chunk-000/file-000.parquet", tmp_path / "note.txt"
    note.write_text("mine")
    for place in (frames, note, tmp_path):
        before = place.read_bytes() if place.is_file() else b""
        with pytest.raises(DatasetError, match="which is not replaced"):
            run_label(config_of(data, stage_one, threshold=10.0, out=place, overwrite=True))
        assert not before or place.read_bytes() == before


def test_labels_that_somebody_wrote_meanwhile_are_kept(
    data: Path, stage_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, labelled = tmp_path / "labels.parquet", label.label_frames

    def meanwhile(*arguments: Any, **settings: Any) -> Any:
        monkeypatch.setattr(label, "label_frames", labelled)
        run_label(config_of(data, stage_one, threshold=10.0, out=out))
        return labelled(*arguments, **settings)

    monkeypatch.setattr(label, "label_frames", meanwhile)
    with pytest.raises(DatasetError, match="--overwrite"):
        run_label(config_of(data, stage_one, threshold=50.0, out=out))
    assert json.loads(parquet.notes_of(out)["nearer"])["threshold_steps"] == 10.0


@pytest.fixture
def pictured(request: pytest.FixtureRequest, tmp_path: Path) -> LabelConfig:
    """Give a data set that lerobot wrote, and a model that sees, to label it with."""
    kept_as = getattr(request, "param", "image")
    root = Path(shutil.copytree(SAMPLES / kept_as, tmp_path / "pictured"))
    dataset = open_dataset(root)
    sizes = SmallVLAConfig(hidden=16)
    model = new_model("small-vla", sizes, dataset_spaces(dataset), dataset.tasks, seed=0)
    data = load_demonstrations(dataset, model.vision_encoder, cache=tmp_path / "first")
    model.normalise_by(data.inputs(slice(None)), data.actions)
    with torch.no_grad():
        model.get_parameter("steps_head.weight").mul_(30)  # untrained, it says the same of all
    save_checkpoint(tmp_path / "000001", model, None)
    return LabelConfig(
        data=str(root), model=tmp_path / "000001", threshold=3.0, cache=tmp_path / "cache"
    )


@pytest.mark.parametrize("pictured", ["image", "video"], indirect=True)
def test_pictures_of_others_are_labelled_as_a_served_robot_is_told(pictured: LabelConfig) -> None:
    assert run_label(pictured).frames == 48
    dataset = open_dataset(pictured.data)
    labels = read_progress(dataset)
    assert labels is not None
    model = load_model(pictured.model, build_model, "reward")
    policy = ServedPolicy(model, model, None, seed=0)
    told: list[float] = []
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
            told.append(policy.respond(session, message).steps_to_go)
    # A picture in company and alone differ in their last bits.
    apart = np.abs(labels["steps_to_go"][: len(told)] - told)
    assert apart.max() < 0.05 * np.ptp(told)


def never(*_: object) -> None:
    raise AssertionError("a picture was looked at")


def stop_before_labelling(progress: Progress) -> None:
    if progress.stage == "labelling":
        raise KeyboardInterrupt


def test_what_was_looked_at_is_not_looked_at_again(
    pictured: LabelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_label(pictured, stop_before_labelling)
    assert read_progress(open_dataset(pictured.data)) is None
    monkeypatch.setattr(CameraVisionEncoder, "encode", never)
    run_label(pictured)
    assert read_progress(open_dataset(pictured.data)) is not None


def test_unknown_words_and_cameras_are_told_before_anything_is_looked_at(
    pictured: LabelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CameraVisionEncoder, "encode", never)
    dataset = open_dataset(pictured.data)
    spaces = dataset_spaces(dataset)

    def refusal(words: tuple[str, ...], change: Callable[[Any], Any]) -> str:
        model = new_model("small-vla", SmallVLAConfig(hidden=16), change(spaces), words, seed=0)
        save_checkpoint(tmp_path / "000002", model, None)
        with pytest.raises((ConfigError, DatasetError)) as refused:
            run_label(LabelConfig(data=pictured.data, model=tmp_path / "000002", threshold=1.0))
        return str(refused.value)

    told = refusal(("push the moon",), lambda one: one)
    assert "must use words of the demonstrations" in told
    camera = spaces.cameras[0]._replace(name="wrist")
    told = refusal(dataset.tasks, lambda one: replace(one, cameras=(camera,)))
    assert "must have the camera wrist 96x128 of the checkpoint, got top 96x128" in told
    told = refusal(dataset.tasks, lambda one: replace(one, control_hz=5))
    assert "must be controlled at the 5 Hz of the checkpoint, got 10 Hz" in told


def test_a_practised_policy_is_judged_by_what_it_practised_with(
    stage_one: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(stage_one / "sft", tmp_path / "practised", symlinks=True))
    (run / "calibration.json").unlink()
    config = {"run": str(stage_one / "sft"), "reward": None}
    write_header(run, header("improve", config))
    for checkpoint in (run, run / "checkpoints/policy"):
        judging = load_reward_model(checkpoint, None, None)
        assert judging.weights == pretrained_folder(stage_one / "sft", "reward")
        assert judging.threshold_steps is not None
    write_header(run, header("improve", config | {"run": str(tmp_path / "gone")}))
    with pytest.raises(ConfigError, match=r"practised with must be there, got .*--reward RUN"):
        load_reward_model(run, None, None)
    assert load_reward_model(run, stage_one / "sft", 2.0).threshold_steps == 2.0


def test_labels_of_an_earlier_recording_are_not_exported(
    data: Path, stage_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rerun")
    run_label(config_of(data, stage_one, threshold=10.0))
    check_current(open_dataset(data))
    table = next((data / "data").rglob("*.parquet"))
    rows = parquet.read_columns(table)
    rows["action"] = -rows["action"]
    with table.open("wb") as handle:
        parquet.write_tables(handle, [parquet.noted_table(
            {name: parquet.fixed_lists(values) for name, values in rows.items()}, {}
        )])  # fmt: skip
    with pytest.raises(SystemExit):
        main(["export", str(data), "--out", str(tmp_path / "out.rrd")])
    assert "got those of an earlier recording" in capsys.readouterr().err
    run_label(config_of(data, stage_one, threshold=10.0, overwrite=True))
    check_current(open_dataset(data))
