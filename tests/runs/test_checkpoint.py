"""Checkpoints hold all of a model or do not exist, and refuse what does not fit."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nearer.algorithm.model import FoundationModel
from nearer.algorithm.run_writer import TrainingState
from nearer.core.errors import CheckpointError
from nearer.core.spaces import Spaces
from nearer.models.factory import build_model, new_model
from nearer.models.settings import MLPConfig
from nearer.runs.checkpoint import (
    complete_checkpoints,
    load_model,
    pretrained_folder,
    restore,
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


def saved(folder: Path) -> tuple[Path, torch.optim.Optimizer]:
    """Save a checkpoint with an optimiser's moments, and return it with the optimiser."""
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    torch.stack([weights.square().sum() for weights in model.parameters()]).sum().backward()
    optimizer.step()
    state = TrainingState(optimizer=optimizer, counters={"iterations": 3})
    save_checkpoint(folder / "000001", model, state)
    return folder / "000001", optimizer


def change(path: Path, by: float) -> None:
    """Add to a number of a file's tensors, but not to its normalisation."""
    tensors = safetensors.torch.load_file(path)
    name = next(name for name in sorted(tensors) if name.endswith((".weight", ".exp_avg")))
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] += by
    safetensors.torch.save_file(tensors, path)


WEIGHTS = "pretrained_model/model.safetensors"
MOMENTS = "training_state/optimizer_state.safetensors"


def test_load_model_one_other_weight_is_refused(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path)
    change(folder / WEIGHTS, by=1e-3)
    with pytest.raises(CheckpointError, match=r"tensors that config\.json was written with"):
        load_model(folder, build_model)


@pytest.mark.parametrize(
    ("file", "by", "sentence"),
    [
        (WEIGHTS, 1e-3, r"pretrained_model must hold the tensors that config\.json was written"),
        (MOMENTS, 1e-3, r"training_state must hold the tensors that training_step\.json was"),
        (WEIGHTS, math.nan, r"model\.safetensors must be finite, got nan or inf in"),
        (MOMENTS, math.inf, r"optimizer_state\.safetensors must be finite, got nan or inf in"),
    ],
)
def test_restore_changed_tensors_are_refused(
    file: str, by: float, sentence: str, tmp_path: Path
) -> None:
    folder, optimizer = saved(tmp_path)
    assert restore(folder, tiny_model(), optimizer) == {"iterations": 3}
    change(folder / file, by)
    with pytest.raises(CheckpointError, match=sentence):
        restore(folder, tiny_model(), optimizer)


def test_load_model_checkpoint_without_hashes_is_read(tmp_path: Path) -> None:
    folder, optimizer = saved(tmp_path)
    for file, key in [
        ("pretrained_model/config.json", "weights_sha256"),
        ("training_state/training_step.json", "optimizer_state_sha256"),
    ]:
        document = json.loads((folder / file).read_text())
        del document[key]
        (folder / file).write_text(json.dumps(document))
    load_model(folder, build_model)
    assert restore(folder, tiny_model(), optimizer) == {"iterations": 3}


def test_save_checkpoint_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    save_checkpoint(tmp_path / "000001", model, None)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = math.inf
    with pytest.raises(CheckpointError, match="the weights must be finite, got nan or inf in"):
        save_checkpoint(tmp_path / "000002", model, None)
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]


def test_save_checkpoint_files_can_be_read_as_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        folder, _ = saved(tmp_path)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o640}
