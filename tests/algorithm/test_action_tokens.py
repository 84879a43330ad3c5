"""Actions as tokens: how they are rounded, named and drawn."""

import numpy as np
import pytest
import torch

from nearer.algorithm.action_tokens import (
    LEVELS,
    NUM_TOKENS,
    ActionTokens,
    action_units,
    action_words,
    draw_tokens,
)


def test_encode_rounds_to_whole_units_of_each_axis() -> None:
    tokens = ActionTokens(torch.tensor([0.1, 2.0]), levels=3)
    actions = torch.tensor([[0.04, 0.9], [0.06, 1.1], [-0.16, -5.1], [9.0, -9.0]])
    assert tokens.encode(actions).tolist() == [[3, 3], [4, 4], [1, 0], [6, 0]]
    assert tokens.count == 7


def test_decode_of_every_token_is_a_multiple_of_the_unit() -> None:
    tokens = ActionTokens(torch.tensor([0.5]), levels=2)
    assert tokens.decode(torch.arange(5)[:, None]).flatten().tolist() == [-1, -0.5, 0, 0.5, 1]


def test_units_are_saved_with_the_weights() -> None:
    saved = ActionTokens(torch.tensor([0.5, 3.0])).state_dict()
    loaded = ActionTokens(torch.ones(2))
    loaded.load_state_dict(saved)
    assert loaded.units.tolist() == [0.5, 3]


def test_action_words_are_a_signed_number_a_token() -> None:
    words = action_words()
    assert len(words) == NUM_TOKENS == 2 * LEVELS + 1
    assert (words[0], words[LEVELS], words[-1]) == ("-10", "+0", "+10")
    assert action_words(1) == ["-1", "+0", "+1"]


@pytest.mark.parametrize("levels", [10, 127])
def test_action_units_of_an_axis_that_never_moves_is_a_level_of_one(levels: int) -> None:
    actions = torch.stack([torch.zeros(100), torch.full((100,), -0.5)], dim=1)
    assert action_units(actions, levels).tolist() == pytest.approx([1 / levels, 0.5 / levels])


def test_draw_tokens_inverts_the_cumulative_distribution() -> None:
    log_prob = torch.tensor([0.2, 0.5, 0.3]).log().repeat(1000, 1)
    rngs = [np.random.default_rng(row) for row in range(1000)]
    uniform = np.array([np.random.default_rng(row).random() for row in range(1000)])
    expected = (uniform > 0.2).astype(int) + (uniform > 0.7)
    assert draw_tokens(log_prob, rngs).tolist() == expected.tolist()


def test_draw_tokens_of_a_certain_token_draws_it() -> None:
    log_prob = torch.tensor([[-np.inf, 0.0, -np.inf], [-np.inf, -np.inf, 0.0]])
    rngs = [np.random.default_rng(row) for row in range(2)]
    assert draw_tokens(log_prob, rngs).tolist() == [1, 2]
