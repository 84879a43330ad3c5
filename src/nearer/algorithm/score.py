"""What the frozen Stage-1 model says of episodes: d, r, R and success (paper, eqs. 1-4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.model import FoundationModel, Inputs, join_inputs, reward_inputs_of
from nearer.algorithm.steps_to_go import (
    discounted_returns,
    is_solved,
    progress_rewards,
    summary,
)
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.episode import Ended, Episode, ScoredEpisode, StepsToGoPrediction

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


def predict_steps_to_go(model: FoundationModel, inputs: Inputs) -> StepsToGoPrediction:
    """Return p(k | o, g) summed up: mean, standard deviation and quantiles, in decisions."""
    return summary(steps_to_go_probabilities(model, inputs), model.bins)


def frame_probabilities(
    model: FoundationModel, data: Demonstrations, on_progress: ProgressCallback = ignore_progress
) -> Float[Tensor, "frames bins"]:
    """Return p(k | o, g) of every frame of recorded episodes, without gradients."""
    total = len(data.state)
    parts: list[Tensor] = []
    for rows in data.parts(_ROWS_AT_ONCE):
        on_progress(Progress(stage="labelling", done=rows.start, total=total))
        parts.append(steps_to_go_probabilities(model, data.inputs(rows)))
    on_progress(Progress(stage="labelling", done=total, total=total))
    return torch.cat(parts)


_SUCCESS = (Ended.SUCCESS_DETECTED, Ended.SUCCESS_TRUE)


def score(
    model: FoundationModel,
    episodes: Sequence[Episode],
    *,
    threshold_steps: float,
    discount: float,
    success_bonus: float = 0.0,
) -> list[ScoredEpisode]:
    """Label every observation of every episode, failed ones too, with d, r, R and success.

    Where the termination rule has run the frozen model already, the episode holds its prediction;
    the model runs for the other episodes alone, all of them in one batch.

    Args:
        model: the frozen Stage-1 model.
        episodes: one or more, as a rollout returned them.
        threshold_steps: s of the success detector, in decisions.
        discount: gamma of the returns.
        success_bonus: steps added to an episode's last reward if success ended it: the detector's,
            or ground truth with `end_on_ground_truth`, as on the paper's Aloha.
    """
    predictions = _predictions(model, episodes)
    rewards = [
        _with_bonus(
            progress_rewards(torch.from_numpy(prediction.mean)), success_bonus, episode.ended
        )
        for prediction, episode in zip(predictions, episodes, strict=True)
    ]
    returns = discounted_returns(torch.nn.utils.rnn.pad_sequence(rewards, True), discount)
    return [
        ScoredEpisode(
            episode=episode,
            steps_to_go=predictions[row].mean,
            steps_to_go_std=predictions[row].std,
            quantiles=predictions[row].quantiles,
            rewards=rewards[row].numpy(),
            returns=returns[row, : episode.num_steps].numpy(),
            solved=predictions[row].mean <= threshold_steps,
        )
        for row, episode in enumerate(episodes)
    ]


def _predictions(model: FoundationModel, episodes: Sequence[Episode]) -> list[StepsToGoPrediction]:
    """Return p(k | o, g) of every episode, summed up; the model runs where an episode has none."""
    unlabelled = [episode for episode in episodes if episode.prediction is None]
    computed: list[StepsToGoPrediction] = []
    if unlabelled:
        everything = predict_steps_to_go(model, _all_inputs(unlabelled))
        ends = np.cumsum([episode.num_steps + 1 for episode in unlabelled]).tolist()
        starts = [0, *ends[:-1]]
        computed = [everything.rows(slice(*part)) for part in zip(starts, ends, strict=True)]
    left = iter(computed)
    return [
        next(left) if episode.prediction is None else episode.prediction for episode in episodes
    ]


def _with_bonus(
    rewards: Float[Tensor, "steps"], success_bonus: float, ended: Ended
) -> Float[Tensor, "steps"]:
    if not success_bonus or not len(rewards) or ended not in _SUCCESS:
        return rewards
    return torch.cat([rewards[:-1], rewards[-1:] + success_bonus])


def _all_inputs(episodes: Sequence[Episode]) -> Inputs:
    return join_inputs(
        [
            reward_inputs_of(episode.observations, [episode.instruction] * (episode.num_steps + 1))
            for episode in episodes
        ]
    )


def progress_of(scored: Sequence[ScoredEpisode]) -> Array:
    """Return, an episode each, how many steps nearer it brought the robot."""
    return np.array([episode.progress_steps for episode in scored], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLabels:
    """What a frozen model says of the frames of recorded episodes, one after the other.

    Attributes:
        steps_to_go: d(o_t, g), in control steps.
        steps_to_go_std: standard deviation of p(k | o_t, g), in control steps.
        quantiles: 10 %, 50 % and 90 % quantiles of p(k | o_t, g), in control steps.
        rewards: r_t = d(o_t, g) - d(o_{t+1}, g); zero at the last frame of an episode.
        returns: R_t; zero at the last frame of an episode.
        solved: d(o_t, g) <= s.
    """

    steps_to_go: Float32[Array, "frames"]
    steps_to_go_std: Float32[Array, "frames"]
    quantiles: Float32[Array, "frames 3"]
    rewards: Float32[Array, "frames"]
    returns: Float32[Array, "frames"]
    solved: Bool[Array, "frames"]


def frame_labels(
    model: FoundationModel,
    prediction: StepsToGoPrediction,
    episode_lengths: Int64[Array, "episodes"],
    *,
    threshold_steps: float,
    discount: float,
) -> FrameLabels:
    """Return the labels of episodes whose p(k | o, g) are known.

    Args:
        model: that predicted them.
        prediction: for the frames of one episode after the other.
        episode_lengths: frames an episode.
        threshold_steps: s of the success detector, in the model's own steps.
        discount: gamma of the returns, a control step.
    """
    chunk = model.spaces.chunking.chunk  # d counts chunks where the model was trained on such
    steps = torch.from_numpy(prediction.mean)
    rewards, returns = _rewards_and_returns(chunk * steps, episode_lengths, discount)
    return FrameLabels(
        steps_to_go=chunk * prediction.mean,
        steps_to_go_std=chunk * prediction.std,
        quantiles=chunk * prediction.quantiles,
        rewards=rewards.numpy(),
        returns=returns.numpy(),
        solved=is_solved(steps, threshold_steps).numpy(),
    )


def _rewards_and_returns(
    steps_to_go: Float[Tensor, "frames"], lengths: Int64[Array, "episodes"], discount: float
) -> tuple[Float[Tensor, "frames"], Float[Tensor, "frames"]]:
    """Return both for every frame; zero at the last one of each episode, as practice keeps them."""
    sizes: list[int] = lengths.tolist()
    nothing = torch.zeros(1)
    rewards = [torch.cat([progress_rewards(d), nothing]) for d in torch.split(steps_to_go, sizes)]
    padded = discounted_returns(torch.nn.utils.rnn.pad_sequence(rewards, True), discount)
    returns = [row[:size] for row, size in zip(padded, sizes, strict=True)]
    return torch.cat(rewards), torch.cat(returns)
