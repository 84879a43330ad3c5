"""What the frozen Stage-1 model says of episodes: d, r, R and success (paper, eqs. 1-4)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nearer.episode import Ended, Episode, ScoredEpisode
from nearer.model import FoundationModel, Inputs, inputs_of
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
        for first in range(0, len(inputs.state), _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            part = Inputs(state=inputs.state[rows], instructions=inputs.instructions[rows])
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
    """Label every observation of every episode, all in one batch.

    Args:
        model: the frozen Stage-1 model.
        episodes: as the collector returned them; failed ones are used too.
        threshold_steps: s of the success detector, in control steps.
        discount: gamma of the returns.
        success_bonus: added to the last reward of an episode that the detector ended, in steps.
            Zero in algorithm 1.
    """
    if not episodes:
        return []
    probabilities = steps_to_go_probabilities(model, _all_inputs(episodes))
    lengths = [episode.num_steps + 1 for episode in episodes]
    steps_to_go = torch.split(expected_steps(probabilities, model.bins), lengths)
    spreads = torch.split(spread_steps(probabilities, model.bins), lengths)
    quantiles = torch.split(quantile_steps(probabilities, model.bins), lengths)
    rewards = [progress_rewards(d) for d in steps_to_go]
    for reward, episode in zip(rewards, episodes, strict=True):
        if success_bonus and len(reward) and episode.ended is Ended.SUCCESS_DETECTED:
            reward[-1] += success_bonus
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


def _all_inputs(episodes: Sequence[Episode]) -> Inputs:
    parts = [inputs_of(e.observations, [e.instruction] * (e.num_steps + 1)) for e in episodes]
    return Inputs(
        state=torch.cat([part.state for part in parts]),
        instructions=[instruction for part in parts for instruction in part.instructions],
    )


def progress_of(scored: Sequence[ScoredEpisode]) -> Array:
    """Return, an episode each, how many steps nearer it brought the robot."""
    return np.array([one.progress_steps for one in scored], dtype=np.float64)
