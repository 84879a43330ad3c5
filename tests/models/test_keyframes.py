"""Keyframes: which they are, and what images predict of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nearer.models.keyframes as keyframes
from nearer.models.keyframes import KeyframePredictor, proprioception_at_keyframes


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_keyframes_are_changes_of_a_gripper_and_the_last_frame() -> None:
    opening = [0.0, 1.0, 1.0, 0.25, 0.0, 0.0, 1.0, 0.75, 0.25]  # of six and of three frames
    agent_pos = torch.cat([column([float(row) for row in range(9)]), column(opening)], dim=1)
    lengths = np.array([6, 3])
    at = proprioception_at_keyframes(agent_pos, lengths, [1])
    assert at[:, 0].tolist() == [1, 1, 3, 3, 5, 5, 8, 8, 8]
    assert at[:, 1].tolist() == [opening[int(row)] for row in at[:, 0]]
    without = proprioception_at_keyframes(agent_pos, lengths, [])
    assert without[:, 0].tolist() == [5, 5, 5, 5, 5, 5, 8, 8, 8]


def test_each_gripper_has_its_own_keyframes_side_by_side() -> None:
    left, right = [0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]
    agent_pos = torch.cat([column([0.0, 1.0, 2.0, 3.0]), column(left), column(right)], dim=1)
    at = proprioception_at_keyframes(agent_pos, np.array([4]), [1, 2])
    assert at.shape == (4, 6)
    assert at[:, 0].tolist() == [1, 1, 3, 3]
    assert at[:, 3].tolist() == [2, 2, 2, 3]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(2, 8), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_keyframes_lie_ahead_in_the_same_episode(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    numbers = np.stack([np.arange(total), rng.integers(0, 2, total)], axis=1).astype(np.float32)
    at = proprioception_at_keyframes(torch.from_numpy(numbers), np.array(lengths), [1])[:, 0]
    last = np.repeat(np.cumsum(lengths) - 1, lengths)
    assert (at.numpy() >= np.arange(total)).all()
    assert (at.numpy() <= last).all()


@pytest.fixture
def few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyframes, "_UPDATES", 400)


@pytest.mark.usefixtures("few_updates")
def test_predictor_learns_what_features_tell_and_is_frozen_then() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3000, 3, generator=generator)
    components = hidden @ torch.randn(3, 40, generator=generator)
    targets = torch.cat([hidden[:, :2] * 5 + 100, torch.full((3000, 1), 3.0)], dim=1)
    predictor = KeyframePredictor(40, 2, 3)
    state = torch.zeros(3000, 2)
    predictor.fit(components[:2500], state[:2500], targets[:2500], np.random.default_rng(0))
    predicted = (
        predictor(components[2500:], state[2500:]) * predictor.target_std + predictor.target_mean
    )
    error = (predicted - targets[2500:]).square().mean(dim=0)
    assert (error[:2] < 0.1 * 25).all()
    assert abs(float(predicted[:, 2].mean()) - 3) < 0.1
    assert not any(parameter.requires_grad for parameter in predictor.parameters())
    assert not predictor.network.training


@pytest.mark.usefixtures("few_updates")
def test_fit_is_a_function_of_its_generator_alone() -> None:
    components, state, targets = torch.randn(64, 30), torch.randn(64, 2), torch.randn(64, 3)
    predicted: list[torch.Tensor] = []
    for start in (1, 2):
        torch.manual_seed(7)  # the first weights, as the model's own seed draws them
        predictor = KeyframePredictor(30, 2, 3)
        torch.manual_seed(start)
        predictor.fit(components, state, targets, np.random.default_rng(5))
        predicted.append(predictor(components, state))
    assert torch.equal(*predicted)
