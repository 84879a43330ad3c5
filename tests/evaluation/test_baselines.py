"""Baselines of the reward report learn the distance to the goal."""

import numpy as np
import pytest
import torch

from nearer.algorithm.steps_to_go import StepsToGoBins
from nearer.evaluation.baseline_settings import BaselineSettings
from nearer.evaluation.baselines import (
    BASELINES,
    SUCCESS_HEAD,
    BaselineTrainingSet,
    distances,
    train_baseline,
)
from nearer.evaluation.detector_metrics import (
    average_precision,
)
from nearer.evaluation.reward_metrics import (
    spearman,
)


def training_set(episodes: int = 60) -> BaselineTrainingSet:
    """Return episodes of 12 frames: a noisy distance to the goal, and noise; no words."""
    rng = np.random.default_rng(0)
    steps_to_go = np.tile(np.arange(11, -1, -1), episodes)
    distance = steps_to_go / 6 - 1 + rng.normal(0, 0.05, len(steps_to_go))
    numbers = np.stack([distance, rng.normal(0, 1, len(steps_to_go))])
    return BaselineTrainingSet(
        inputs=torch.from_numpy(numbers.T.astype(np.float32)),
        steps_to_go=torch.from_numpy(steps_to_go),
        ends=torch.from_numpy(np.repeat(np.arange(episodes) * 12 + 11, 12)),
        progress=torch.from_numpy((1 - steps_to_go / 11).astype(np.float32)),
        bins=StepsToGoBins(count=20),
    )


@pytest.mark.parametrize("baseline", BASELINES)
def test_train_baseline_on_distances_to_the_goal_correlates_with_steps_to_go(baseline: str) -> None:
    data, updates, sizes = training_set(), 100, BaselineSettings()
    network = train_baseline(baseline, data, words=0, updates=updates, seed=0, settings=sizes)
    predicted = distances(baseline, network, data, data.inputs)
    assert spearman(predicted, data.steps_to_go.numpy()) > 0.9
    done = data.steps_to_go.numpy() == 0
    if baseline == SUCCESS_HEAD:
        assert (average_precision(predicted, done) or 0) > 0.8
    again = train_baseline(baseline, data, words=0, updates=updates, seed=0, settings=sizes)
    assert np.array_equal(distances(baseline, again, data, data.inputs), predicted)
