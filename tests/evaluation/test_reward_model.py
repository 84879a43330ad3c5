"""Which run a checkpoint belongs to, and which reward model and threshold it has."""

from pathlib import Path

import pytest

from document_values import calibration, header
from nearer.core.errors import ConfigError
from nearer.evaluation.calibration import write_calibration
from nearer.evaluation.reward_model import (
    calibrated_threshold,
    calibration_of,
    load_reward_model,
    run_of,
)
from nearer.runs.documents import write_header


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "run/checkpoints/reward/pretrained_model"
    folder.mkdir(parents=True)
    return folder


def test_run_of_a_checkpoint_is_its_run(checkpoint: Path, tmp_path: Path) -> None:
    assert run_of(checkpoint) is None
    write_header(tmp_path / "run", header("sft", {}))
    for path in (checkpoint, checkpoint.parent, tmp_path / "run"):
        assert run_of(path) == tmp_path / "run"


def test_calibrated_threshold_of_a_checkpoint_is_that_of_its_run(
    checkpoint: Path, tmp_path: Path
) -> None:
    assert calibrated_threshold(checkpoint) is None
    write_calibration(tmp_path / "run", calibration(threshold_steps=1.5))
    assert calibrated_threshold(checkpoint) == 1.5
    assert calibration_of(checkpoint) == tmp_path / "run/calibration.json"


def test_load_reward_model_of_practice_without_its_stage_one_run_is_refused(
    tmp_path: Path,
) -> None:
    write_header(tmp_path / "run", header("improve", {"run": str(tmp_path / "x"), "reward": None}))
    with pytest.raises(ConfigError, match=r"practised with must be there, got .*--reward RUN"):
        load_reward_model(tmp_path / "run", None, None)


def test_load_reward_model_of_a_run_has_its_threshold(stage_one: Path) -> None:
    reward = load_reward_model(stage_one / "sft", None, None)
    assert reward.threshold_steps == calibrated_threshold(stage_one / "sft")
    assert load_reward_model(stage_one / "sft", None, 2.5).threshold_steps == 2.5
