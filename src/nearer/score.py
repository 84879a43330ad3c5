"""What the frozen Stage-1 model says of episodes: d, r, R and success (paper, eqs. 1-4)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nearer.episode import Ended, Episode, ScoredEpisode
from nearer.model import FoundationModel, Inputs, join_inputs, reward_inputs_of
from nearer.shapes import Array
from nearer.steps_to_go import (
    discounted_returns,
    expected_steps,
    is_solved,
    progress_rewards,
    quantile_steps,
    spread_steps,
)

_ROWS_AT_ONCE = 8192  # observations a forward pass; bounds the memory of a large buffer


def steps_to_go_probabilities(
    model: FoundationModel, inputs: Inputs
) -> Float[Tensor, "samples bins"]:
    """Return p(k | o, g) over the model's bins, without gradients."""
    parts: list[Tensor] = []
    with torch.inference_mode():
        for first in range(0, len(inputs), _ROWS_AT_ONCE):
            part = inputs.rows(slice(first, first + _ROWS_AT_ONCE))
            parts.append(model.steps_to_go_logits(part).softmax(dim=-1))
        return torch.cat(parts)


def score(
    model: FoundationModel,
    episodes: Sequence[Episode],
    *,
    threshold_steps: float,
    discount: float,
    success_bonus: float = 0.0,
) -> list[ScoredEpisode]:
    """Label every observation of every episode, failed ones too, all in one batch.

    Args:
        model: the frozen Stage-1 model.
        episodes: one or more, as the collector returned them.
        threshold_steps: s of the success detector, in control steps.
        discount: gamma of the returns.
        success_bonus: steps added to an episode's last reward if the detector ended it.
    """
    probabilities = steps_to_go_probabilities(model, _all_inputs(episodes))
    lengths = [one.num_steps + 1 for one in episodes]
    steps_to_go = torch.split(expected_steps(probabilities, model.bins), lengths)
    spreads = torch.split(spread_steps(probabilities, model.bins), lengths)
    quantiles = torch.split(quantile_steps(probabilities, model.bins), lengths)
    rewards = [
        _with_bonus(progress_rewards(d), success_bonus, episode.ended)
        for d, episode in zip(steps_to_go, episodes, strict=True)
    ]
    returns = discounted_returns(torch.nn.utils.rnn.pad_sequence(rewards, True), discount)
    return [
        ScoredEpisode(
            episode=episode,
            steps_to_go=steps_to_go[row].numpy(),
            steps_to_go_std=spreads[row].numpy(),
            quantiles=quantiles[row].numpy(),
            rewards=rewards[row].numpy(),
            returns=returns[row, : episode.num_steps].numpy(),
            solved=is_solved(steps_to_go[row], threshold_steps).numpy(),
        )
        for row, episode in enumerate(episodes)
    ]


def _with_bonus(
    rewards: Float[Tensor, "steps"], success_bonus: float, ended: Ended
) -> Float[Tensor, "steps"]:
    if not success_bonus or not len(rewards) or ended is not Ended.SUCCESS_DETECTED:
        return rewards
    return torch.cat([rewards[:-1], rewards[-1:] + success_bonus])


def _all_inputs(episodes: Sequence[Episode]) -> Inputs:
    return join_inputs(
        [reward_inputs_of(e.observations, [e.instruction] * (e.num_steps + 1)) for e in episodes]
    )


def progress_of(scored: Sequence[ScoredEpisode]) -> Array:
    """Return, an episode each, how many steps nearer it brought the robot."""
    return np.array([one.progress_steps for one in scored], dtype=np.float64)
