"""Positions as expectations over the softmax, through which both objectives reach the encoder."""

import pytest
import torch

from nearer.models.pointing.objective_training import expected_positions


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
