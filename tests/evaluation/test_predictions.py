"""Predictions of a reward model on labelled episodes, and how they are stored."""

import numpy as np

from nearer.core.spaces import Spaces
from nearer.evaluation.predictions import (
    LabelledPredictions,
    normalised_inputs_of,
    predict_rollouts,
    reward_inputs,
)
from nearer.evaluation.success import rollouts_with_ground_truth
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig
from nearer.testing import CountingFleet, EchoPolicy


def test_predict_rollouts_keeps_frames_labels_and_instructions_together() -> None:
    fleet = CountingFleet(3, goal_steps=4)
    sizes = fleet.spaces
    spaces = Spaces(
        agent_pos=sizes.agent_pos, environment_state=sizes.environment_state, action=sizes.action
    )
    model = new_model("mlp", MLPConfig(hidden=8), spaces, ["go"], seed=0)
    rollouts = list(
        rollouts_with_ground_truth(fleet, EchoPolicy(), episodes=5, max_steps=6, seed=0)
    )
    predictions = predict_rollouts(model, rollouts)
    assert predictions.lengths.tolist() == [episode.num_steps + 1 for episode, _ in rollouts]
    assert predictions.instructions == tuple(episode.instruction for episode, _ in rollouts)
    assert np.allclose(predictions.predictions.probabilities.sum(axis=1), 1, atol=1e-5)
    inputs = normalised_inputs_of(model, (reward_inputs(episode) for episode, _ in rollouts))
    assert np.array_equal(predictions.predictions.normalised_inputs, inputs)
    restored = LabelledPredictions.of_columns(predictions.columns())
    assert restored.instructions == predictions.instructions
    assert np.array_equal(restored.success, np.concatenate([success for _, success in rollouts]))
