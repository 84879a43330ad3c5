"""Baselines of the reward report learn what they are meant to learn."""

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
    """Return episodes of 12 frames whose one fact is a noisy distance to the goal; no words."""
    draw = np.random.default_rng(0)
    left = np.tile(np.arange(11, -1, -1), episodes)
    facts = np.stack([left / 6 - 1 + draw.normal(0, 0.05, len(left)), draw.normal(0, 1, len(left))])
    return BaselineTrainingSet(
        inputs=torch.from_numpy(facts.T.astype(np.float32)),
        steps_to_go=torch.from_numpy(left),
        ends=torch.from_numpy(np.repeat(np.arange(episodes) * 12 + 11, 12)),
        progress=torch.from_numpy((1 - left / 11).astype(np.float32)),
        bins=StepsToGoBins(count=20),
    )


@pytest.mark.parametrize("baseline", BASELINES)
def test_train_baseline_learns_what_falls_on_the_way_to_the_goal(baseline: str) -> None:
    given, updates, sizes = training_set(), 100, BaselineSettings()
    network = train_baseline(baseline, given, words=0, updates=updates, seed=0, settings=sizes)
    found = distances(baseline, network, given, given.inputs)
    assert spearman(found, given.steps_to_go.numpy()) > 0.9
    done = given.steps_to_go.numpy() == 0
    if baseline == SUCCESS_HEAD:
        assert (average_precision(found, done) or 0) > 0.8
    again = train_baseline(baseline, given, words=0, updates=updates, seed=0, settings=sizes)
    assert np.array_equal(distances(baseline, again, given, given.inputs), found)
