"""nearer label: what a frozen model says of a data set, beside its frames, whole or not at all."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nearer.checkpoint import load_model
from nearer.cli import main
from nearer.commands.label import LabelConfig, run_label
from nearer.data.reader import open_dataset, read_progress
from nearer.data.store import load_demonstrations
from nearer.errors import ConfigError, DatasetError
from nearer.models.build import build_model
from nearer.score import steps_to_go_probabilities
from nearer.steps_to_go import expected_steps

SAMPLE = Path(__file__).parent / "data" / "lerobot_v3" / "image"


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
