"""Arithmetic of eqs. 1-4: hand-worked numbers, properties, brute-force definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nearer.algorithm.steps_to_go import (
    StepsToGoBins,
    discounted_returns,
    expected_steps,
    is_solved,
    progress_rewards,
    quantile_steps,
    spread_steps,
)
from nearer.core.errors import ConfigError

steps_to_go_lists = st.lists(st.floats(0, 140, width=32), min_size=2, max_size=30).map(torch.tensor)
discounts = st.floats(0, 1)


def test_bins_of_two_steps_equal_indices_by_hand() -> None:
    bins = StepsToGoBins(count=50, width_steps=2)
    assert bins.index(torch.tensor([0, 1, 2, 3, 98, 99, 100, 5000])).tolist() == [
        0, 0, 1, 1, 49, 49, 49, 49,
    ]  # fmt: skip
    assert bins.edges()[:3].tolist() == [0, 2, 4]
    assert bins.longest_steps == 98


def test_bins_fewer_than_two_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        StepsToGoBins(count=1)


@given(st.integers(2, 60), st.integers(1, 5), st.integers(0, 400))
def test_bins_edge_of_an_index_is_at_most_its_steps(count: int, width: int, steps: int) -> None:
    bins = StepsToGoBins(count=count, width_steps=width)
    decoded = bins.edges()[bins.index(torch.tensor([steps]))].item()
    assert decoded <= steps
    assert steps - decoded < width or decoded == bins.longest_steps


def test_expected_spread_and_quantile_steps_equal_numbers_by_hand() -> None:
    bins = StepsToGoBins(count=4, width_steps=10)
    probabilities = torch.tensor([[0.5, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0]])
    assert expected_steps(probabilities, bins).tolist() == [15, 10]
    assert spread_steps(probabilities, bins).tolist() == [15, 0]
    assert quantile_steps(probabilities, bins).tolist() == [[0, 0, 30], [10, 10, 10]]


def test_progress_rewards_equal_numbers_by_hand() -> None:
    rewards = progress_rewards(torch.tensor([10.0, 7.0, 8.0, 8.0, 0.0]))
    assert rewards.tolist() == [3, -1, 0, 8]


def test_discounted_returns_equal_numbers_by_hand() -> None:
    returns = discounted_returns(torch.tensor([1.0, 2.0, 4.0]), discount=0.5)
    assert returns.tolist() == [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4]


@given(steps_to_go_lists)
def test_discounted_returns_without_discount_telescope(d: torch.Tensor) -> None:
    returns = discounted_returns(progress_rewards(d), discount=1.0)
    assert torch.allclose(returns, d[:-1] - d[-1], atol=1e-3)


@given(steps_to_go_lists, discounts)
def test_discounted_returns_equal_their_definition(d: torch.Tensor, discount: float) -> None:
    rewards = progress_rewards(d)
    returns = discounted_returns(rewards, discount=discount)
    for t in range(len(rewards)):
        defined = math.fsum(discount ** (i - t) * rewards[i].item() for i in range(t, len(rewards)))
        assert returns[t].item() == pytest.approx(defined, abs=1e-2)


@given(steps_to_go_lists, st.floats(0, 0.99))
def test_discounted_returns_of_progress_include_the_value_baseline(
    d: torch.Tensor, discount: float
) -> None:
    # R_t = (1 - gamma) sum_i gamma^(i-t) V(o_{i+1}) - V(o_t) + gamma^(T-t) V(o_T), V = -d; the
    # paper drops the last term, which a finite episode leaves over (method.md, section 2).
    value = -d.double()
    returns = discounted_returns(progress_rewards(d.double()), discount=discount)
    last = len(d) - 1
    for t in range(last):
        core = sum((1 - discount) * discount ** (i - t) * value[i + 1] for i in range(t, last))
        expected = core - value[t] + discount ** (last - t) * value[last]
        assert returns[t].item() == pytest.approx(float(expected), abs=1e-6)


@given(st.lists(steps_to_go_lists, min_size=1, max_size=5), st.floats(0, 1))
def test_discounted_returns_of_ragged_episodes_are_independent(
    ds: list[torch.Tensor], discount: float
) -> None:
    rewards = [progress_rewards(d) for d in ds]
    together = discounted_returns(torch.nn.utils.rnn.pad_sequence(rewards, True), discount)
    for row, alone in zip(together, rewards, strict=True):
        assert torch.equal(row[: len(alone)], discounted_returns(alone, discount))


@given(steps_to_go_lists, st.floats(0, 140, width=32))
def test_is_solved_at_or_below_the_threshold_is_true(d: torch.Tensor, threshold: float) -> None:
    assert is_solved(d, threshold).tolist() == [steps <= threshold for steps in d.tolist()]


settings.register_profile("nearer", deadline=None)  # the first torch call takes over a second
settings.load_profile("nearer")
