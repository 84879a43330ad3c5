"""Models by their name: seeded, without a trace in torch's own random numbers."""

import sys
from pathlib import Path

import pytest
import torch

from model_inputs import SPACES
from nearer.core.errors import CheckpointError, ConfigError
from nearer.models.factory import build_model, new_model
from nearer.models.mlp import MLP
from nearer.models.settings import MLPConfig, SmallVLAConfig, VLMConfig
from nearer.models.small_vla import SmallVLA
from nearer.runs.checkpoint import weights_hash

NAMES = {"mlp": MLPConfig(hidden=4), "small-vla": SmallVLAConfig(hidden=4)}


@pytest.mark.parametrize("name", NAMES)
def test_new_model_is_a_function_of_its_seed(name: str) -> None:
    hashes = [
        weights_hash(new_model(name, NAMES[name], SPACES, ["move it"], seed)) for seed in (3, 3, 4)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_new_model_draws_none_of_the_callers_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    new_model("mlp", NAMES["mlp"], SPACES, [], seed=5)
    assert torch.equal(torch.rand(3), expected)


def test_new_model_of_a_name_is_of_its_kind_with_its_spaces() -> None:
    for name, kind in (("mlp", MLP), ("small-vla", SmallVLA)):
        model = new_model(name, NAMES[name], SPACES, ["move it"], seed=0)
        assert isinstance(model, kind)
        assert model.spaces == SPACES


@pytest.mark.parametrize("name", NAMES)
def test_build_model_of_a_models_config_is_the_same_model(name: str, tmp_path: Path) -> None:
    model = new_model(name, NAMES[name], SPACES, ["move it"], seed=0)
    built = build_model(model.config(), tmp_path)
    assert built.config() == model.config()
    built.load_state_dict(model.state_dict())
    assert weights_hash(built) == weights_hash(model)


@pytest.mark.parametrize("config", [{}, {"model": "gpt"}])
def test_build_model_of_no_model_of_nearers_is_refused(
    config: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as refused:
        build_model(config, tmp_path)
    assert str(refused.value) == (
        "config.json must describe a model of nearer's, mlp, small-vla, vlm or dual-encoder, got "
        f"{config.get('model')!r}; use a checkpoint that nearer sft wrote"
    )


def test_new_model_of_the_hub_without_transformers_names_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "nearer.models.vlm.dual_encoder_loading", None)
    with pytest.raises(ConfigError, match=r"run pip install 'nearer\[vlm\]'"):
        new_model("user/name", VLMConfig(), SPACES, ["move it"], seed=0)
