"""The MLP for states: normalisation, Gaussian log-probabilities, and what it refuses to exceed."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from nearer.algorithm.model import Inputs
from nearer.core.errors import CheckpointError
from nearer.core.spaces import Spaces
from nearer.models.factory import build_model, new_model
from nearer.models.mlp import MLP
from nearer.models.settings import MLPConfig
from nearer.runs.checkpoint import load_model, save_checkpoint
from nearer.testing import check_model

SPACES = Spaces(agent_pos=2, environment_state=1, action=2)


def inputs(rows: int = 64) -> Inputs:
    state = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    no_features = torch.zeros(rows, 0)
    return Inputs(state=state, features=no_features, instructions=["reach the goal"] * rows)


@pytest.fixture
def model() -> MLP:
    mlp = new_model("mlp", MLPConfig(hidden=16), SPACES, (), seed=0)
    assert isinstance(mlp, MLP)
    actions = torch.randn(64, 2, generator=torch.Generator().manual_seed(1)) * 0.1
    mlp.normalise_by(inputs(), actions)
    return mlp.eval()


def test_mlp_keeps_the_contract_of_a_model(model: MLP) -> None:
    check_model(model, inputs(20))


def test_mlp_normalised_inputs_have_unit_deviation_and_are_clipped(model: MLP) -> None:
    normalised = model.normalised_inputs(inputs())
    assert normalised.mean(dim=0).abs().max() < 0.1
    assert torch.allclose(normalised.std(dim=0), torch.ones(3), atol=0.1)
    far = Inputs(state=torch.full((1, 3), 1e6), features=torch.zeros(1, 0), instructions=["go"])
    assert model.normalised_inputs(far).tolist() == [[5.0] * 3]


def test_mlp_normalise_by_of_a_constant_action_keeps_its_unit(model: MLP) -> None:
    model.normalise_by(inputs(), torch.full((64, 2), 0.3))
    assert model.action_std.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("max_scale", "std"), [(None, math.log(2) + 0.15), (0.2, 0.2)])
def test_mlp_log_prob_of_a_zeroed_network_is_the_gaussian_density(
    max_scale: float | None, std: float
) -> None:
    """Weights of zero: mean 0, standard deviation log 2 + 0.15 or the largest, when normalised."""
    mlp = MLP(MLPConfig(hidden=4, max_scale=max_scale), SPACES)
    with torch.no_grad():
        for weight in mlp.parameters():
            weight.zero_()
        log_prob = mlp.log_prob(inputs(1), torch.tensor([[0.5, -1.0]]))
    density = [-(a**2) / (2 * std**2) - math.log(std * math.sqrt(2 * math.pi)) for a in (0.5, 1)]
    assert log_prob.item() == pytest.approx(sum(density), abs=1e-5)


def test_mlp_checkpoint_loads_with_the_same_outputs(model: MLP, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    rngs = [[np.random.default_rng(robot) for robot in range(64)] for _ in range(2)]
    with torch.inference_mode():
        saved, restored = model.sample(inputs(), rngs[0]), loaded.sample(inputs(), rngs[1])
    assert torch.equal(saved[0], restored[0])
    assert torch.equal(saved[1], restored[1])


def test_build_model_of_an_unknown_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"must describe a model of nearer's.*'resnet'"):
        build_model({"model": "resnet"}, tmp_path)
