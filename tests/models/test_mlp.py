"""The MLP for states: normalisation, Gaussian log-probabilities, and what it refuses to exceed."""

import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

import nearer.models.keyframes as keyframes
from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.model import Inputs
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import build_model, new_model
from nearer.models.mlp import MLP
from nearer.models.pointing.weights import pretrained_trunk
from nearer.models.settings import MLPConfig
from nearer.models.trunk_vision_encoder import TrunkVisionEncoder
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


def test_mlp_without_images_ignores_the_features_of_another_model(model: MLP) -> None:
    shown = replace(inputs(), features=torch.randn(64, 7))
    assert torch.equal(model.steps_to_go_logits(shown), model.steps_to_go_logits(inputs()))
    actions = torch.zeros(64, 2)
    assert torch.equal(model.log_prob(shown, actions), model.log_prob(inputs(), actions))


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


CAMERAS = (Camera("front", 48, 64), Camera("wrist", 32, 32))


@pytest.fixture
def seeing() -> MLP:
    sizes = MLPConfig(hidden=16, images=True, grippers=(0,))
    mlp = new_model("mlp", sizes, replace(SPACES, cameras=CAMERAS), (), seed=0)
    assert isinstance(mlp, MLP)
    data = demonstrations(mlp)
    mlp.normalise_by(data.statistics(), data.actions)
    with patch.object(keyframes, "_UPDATES", 20):
        mlp.learn_in_hindsight(data, seed=0)
    return mlp.eval()


def demonstrations(mlp: MLP) -> Demonstrations:
    """Return two episodes of noise."""
    frames = seen(mlp, 12)
    return Demonstrations(
        state=frames.state,
        features=frames.features,
        actions=torch.randn(12, 2),
        steps_to_go=torch.arange(6).flip(0).repeat(2),
        episode_lengths=np.array([6, 6]),
        instructions=("go", "go"),
        spaces=mlp.spaces,
    )


def seen(mlp: MLP, rows: int) -> Inputs:
    """Return states, and what the model's encoder makes of noise."""
    rng = np.random.default_rng(0)
    images = {
        camera.name: rng.integers(0, 256, (rows, camera.height, camera.width, 3), np.uint8)
        for camera in CAMERAS
    }
    encoder = mlp.vision_encoder
    assert encoder is not None
    encodings = encoder.encode(images, ["go"] * rows)
    assert encodings.shape == (rows, encoder.encoding_width) == (rows, 2 * 40 * 6 * 8)
    features = torch.from_numpy(encoder.track(None, encodings))
    return replace(inputs(rows), features=features)


def test_mlp_with_images_keeps_the_contract_of_a_model(seeing: MLP) -> None:
    check_model(seeing, seen(seeing, 12))


def test_mlp_with_images_acts_on_what_it_sees(seeing: MLP) -> None:
    same, other = seen(seeing, 12), seen(seeing, 12)
    other = replace(other, features=other.features.flip(0))
    actions = torch.zeros(12, 2)
    assert not torch.allclose(seeing.log_prob(same, actions), seeing.log_prob(other, actions))
    assert not torch.allclose(seeing.steps_to_go_logits(same), seeing.steps_to_go_logits(other))


def test_mlp_with_images_checkpoint_has_the_trunk(seeing: MLP, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "000001", seeing, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert isinstance(loaded, MLP)
    assert loaded.sizes == seeing.sizes
    assert loaded.vision_encoder is not None
    assert seeing.vision_encoder is not None
    assert loaded.vision_encoder.identity == seeing.vision_encoder.identity
    assert torch.equal(seen(loaded, 12).features, seen(seeing, 12).features)
    frames = seen(seeing, 12)
    assert torch.equal(loaded.steps_to_go_logits(frames), seeing.steps_to_go_logits(frames))


def test_mlp_with_images_learns_nothing_in_trunk_and_predictor(seeing: MLP) -> None:
    assert seeing.trunk is not None
    assert seeing.keyframes is not None
    assert seeing.components is not None
    for frozen in (seeing.trunk, seeing.components, seeing.keyframes):
        assert not any(weight.requires_grad for weight in frozen.parameters())


def test_mlp_with_images_reads_its_grippers_keyframes(seeing: MLP) -> None:
    numbers = seeing.normalised_inputs(seen(seeing, 12))
    state = SPACES.agent_pos + SPACES.environment_state
    assert numbers.shape == (12, state + SPACES.agent_pos + 64)
    assert numbers.abs().max() <= seeing.sizes.max_deviation


def test_mlp_with_images_leaves_something_out_in_training_alone(seeing: MLP) -> None:
    frames, actions = seen(seeing, 12), torch.zeros(12, 2)
    logits, log_prob = seeing.steps_to_go_logits(frames), seeing.log_prob(frames, actions)
    assert torch.equal(seeing.steps_to_go_logits(frames), logits)
    assert torch.equal(seeing.log_prob(frames, actions), log_prob)
    seeing.train()
    assert not torch.allclose(seeing.steps_to_go_logits(frames), logits)
    assert not torch.equal(seeing.log_prob(frames, actions), log_prob)


@pytest.mark.parametrize("grippers", [(7,), (-1,), (0, 0)])
def test_mlp_with_grippers_that_the_robot_lacks_is_refused(grippers: tuple[int, ...]) -> None:
    sizes = MLPConfig(images=True, grippers=grippers)
    with pytest.raises(ConfigError, match=r"--mlp\.grippers must be different numbers from 0 to "):
        new_model("mlp", sizes, replace(SPACES, cameras=CAMERAS), (), seed=0)


def test_mlp_with_grippers_and_without_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--mlp\.grippers must come with --mlp\.images"):
        MLPConfig(grippers=(0,))


def test_mlp_with_images_of_a_robot_without_a_camera_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--mlp\.images must have a camera.*leave it out"):
        new_model("mlp", MLPConfig(images=True), SPACES, (), seed=0)


def test_trunk_encoder_says_in_which_cell_something_is() -> None:
    images = np.zeros((2, 96, 128, 3), np.uint8)
    images[1, 32:48, 64:80] = (255, 0, 0)  # row 2 and 3 of 6, column 4 of 8
    trunk = pretrained_trunk()
    encoder = TrunkVisionEncoder(trunk, (Camera("front", 96, 128),))
    empty, red = encoder.encode({"front": images}, ["go"] * 2).reshape(2, 40, 6, 8)
    change = np.abs(red - empty).sum(axis=0)
    assert np.unravel_index(change.argmax(), change.shape) == (2, 4)
    assert change[2, 4] > 10 * change[0, 0]
