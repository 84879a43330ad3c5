"""A run's folder: what a new one needs, what is kept of one that is continued."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nearer.algorithm.model import FoundationModel
from nearer.algorithm.run_writer import TrainingState
from nearer.core.errors import ConfigError
from nearer.core.spaces import Spaces
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig
from nearer.runs.checkpoint import weights_hash
from nearer.runs.documents import RunInputs, read_header
from nearer.runs.metrics import read_metrics
from nearer.runs.run import Run, check_new, is_finished

INPUTS = RunInputs(data_sha256="0a")


def tiny_model(seed: int = 0) -> FoundationModel:
    spaces = Spaces(agent_pos=2, environment_state=0, action=2)
    return new_model("mlp", MLPConfig(hidden=8), spaces, ["go"], seed=seed)


def state(model: FoundationModel, **counters: Any) -> TrainingState:
    return TrainingState(optimizer=torch.optim.SGD(model.parameters(), lr=1.0), counters=counters)


def test_create_new_folder_holds_config_and_inputs(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", "sft", {"seed": 3}, inputs=INPUTS):
        pass
    header = read_header(tmp_path / "run")
    assert (header.command, header.config, header.inputs) == ("sft", {"seed": 3}, INPUTS)
    assert header.versions.keys() >= {"nearer", "torch", "python"}


def test_create_occupied_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".run.json.tmp").touch()
    check_new(tmp_path)
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigError, match="must be a new or empty folder"):
        Run.create(tmp_path, "sft", {})


def test_resume_metrics_after_the_last_checkpoint_are_dropped(tmp_path: Path) -> None:
    model = tiny_model()
    with Run.create(tmp_path / "run", "sft", {}, inputs=INPUTS) as run:
        run.log({"step": 1, "sft/loss_bc": 2.0})
        run.save(1, model, state(model, updates=1), {"policy": 1})
        run.log({"step": 2, "sft/loss_bc": 1.0})
    with Run.resume(tmp_path / "run", inputs=INPUTS) as run:
        assert [record["step"] for record in run.records()] == [1]
        other = tiny_model(seed=1)
        optimizer = torch.optim.SGD(other.parameters(), lr=1.0)
        assert run.restore(other, optimizer) == {"updates": 1}
        assert weights_hash(other) == weights_hash(model)
    assert [record["step"] for record in read_metrics(tmp_path / "run")] == [1]


def test_resume_other_input_is_refused(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", "sft", {}, inputs=INPUTS):
        pass
    with pytest.raises(ConfigError, match=r"data_sha256 must be 0a, .* got 0b; restore"):
        Run.resume(tmp_path / "run", inputs=RunInputs(data_sha256="0b"))


def test_finish_run_is_marked_as_finished(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", "sft", {}) as run:
        assert not is_finished(run.root)
        run.finish()
        assert is_finished(run.root)
