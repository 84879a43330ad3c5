"""Positions as expectations over the softmax, through which both objectives reach the encoder."""

import numpy as np
import pytest
import torch

from nearer.algorithm.demonstrations import Demonstrations
from nearer.configs.sft import SFTConfig
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import new_model
from nearer.models.pointing.objective_training import expected_positions
from nearer.models.settings import SmallVLAConfig
from nearer.models.small_vla import SmallVLA


def test_decisions_of_the_last_frame_of_an_episode_are_none() -> None:
    spaces = Spaces(agent_pos=1, environment_state=0, action=1, cameras=(Camera("top", 96, 128),))
    model = new_model("small-vla", SmallVLAConfig(hidden=8), spaces, ["push it"], seed=0)
    assert isinstance(model, SmallVLA)
    decisions = model.decisions(
        Demonstrations(
            state=torch.tensor([[1.0], [2.0], [3.0], [2.0]]),
            features=torch.zeros(4, 0),
            actions=torch.tensor([[0.5], [9.0], [-0.5], [9.0]]),
            steps_to_go=torch.tensor([1, 0, 1, 0]),
            episode_lengths=np.array([2, 2]),
            instructions=("push it", "push it"),
            spaces=spaces,
        )
    )
    assert decisions.actions.tolist() == [[20], [-1], [0], [-1]]
    assert decisions.steps_to_go.tolist() == [1, 0, 1, 0]
    assert decisions.state[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert decisions.state[:, 0].std(ddof=1) == pytest.approx(1)
    assert (decisions.num_action_tokens, decisions.num_bins) == (21, 80)


def test_objective_updates_of_another_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="--vision-encoder-objective-updates must be 0 unless"):
        SFTConfig(data="d", model="mlp", vision_encoder_objective_updates=3)


def test_expected_positions_of_one_cell_is_its_centre() -> None:
    logits = torch.full((1, 3, 4, 8), -50.0)
    logits[0, 0, 0, 0] = logits[0, 1, 3, 7] = logits[0, 2, 1, 4] = 50.0
    positions = expected_positions(logits)
    expected = torch.tensor([[[-0.875, -0.75], [0.875, 0.75], [0.125, -0.25]]])
    torch.testing.assert_close(positions, expected)


def test_expected_positions_of_nothing_is_the_middle_and_has_gradients_everywhere() -> None:
    logits = torch.zeros((1, 1, 4, 8), requires_grad=True)
    positions = expected_positions(logits)
    assert positions.detach().flatten().tolist() == pytest.approx([0, 0], abs=1e-6)
    positions[0, 0, 0].backward()
    assert logits.grad is not None
    assert (logits.grad != 0).all()
