"""Checkpoints hold all of a model or do not exist, and refuse what does not fit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch

from nearer.algorithm.model import FoundationModel
from nearer.core.errors import CheckpointError
from nearer.core.spaces import Spaces
from nearer.models.factory import build_model, new_model
from nearer.models.settings import MLPConfig
from nearer.runs.checkpoint import (
    complete_checkpoints,
    load_model,
    pretrained_folder,
    save_checkpoint,
    weights_hash,
)

SPACES = Spaces(agent_pos=2, environment_state=0, action=2)


def tiny_model(hidden: int = 8) -> FoundationModel:
    return new_model("mlp", MLPConfig(hidden=hidden), SPACES, ["go"], seed=0)


def test_load_model_saved_checkpoint_has_its_weights(tmp_path: Path) -> None:
    model = tiny_model()
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert weights_hash(loaded) == weights_hash(model)
    assert loaded.spaces == SPACES
    assert complete_checkpoints(tmp_path) == [tmp_path / "000001"]


def test_pretrained_folder_unfinished_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "000001", tiny_model(), None)
    (tmp_path / "000001/COMPLETE").unlink()
    assert complete_checkpoints(tmp_path) == []
    with pytest.raises(CheckpointError, match="never finished"):
        pretrained_folder(tmp_path / "000001", "policy")


def test_load_model_other_sizes_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "000001", tiny_model(), None)
    config = tmp_path / "000001/pretrained_model/config.json"
    document = json.loads(config.read_text())
    document["sizes"]["hidden"] = 16
    config.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"must fit the model that config\.json describes"):
        load_model(tmp_path / "000001", build_model)


def test_load_model_other_normalisation_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "000001", tiny_model(), None)
    path = tmp_path / "000001/pretrained_model/model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**weights, "state_mean": weights["state_mean"] + 1}, path)
    with pytest.raises(CheckpointError, match="must carry the normalisation"):
        load_model(tmp_path / "000001", build_model)


def test_save_checkpoint_over_an_earlier_one_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "000001", tiny_model(), None)
    wide = replace(MLPConfig(), hidden=16)
    model = new_model("mlp", wide, SPACES, ["go"], seed=0)
    save_checkpoint(tmp_path / "000001", model, None)
    assert weights_hash(load_model(tmp_path / "000001", build_model)) == weights_hash(model)
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
