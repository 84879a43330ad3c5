"""The values of a trajectory: rows are taken from, and written into, copies."""

import numpy as np

from nearer.core.episode import EncodedObservation, Observation, StepsToGoPrediction


def encoded(rows: int, offset: float = 0.0) -> EncodedObservation:
    numbers = np.arange(rows, dtype=np.float32)[:, None] + offset
    observation = Observation(
        agent_pos=numbers,
        environment_state=-numbers,
        images={"top": numbers.astype(np.uint8)[:, :, None, None]},
    )
    return EncodedObservation(
        observation=observation, features=2 * numbers, reward_features=3 * numbers
    )


def test_encoded_observation_rows_keep_every_field_aligned() -> None:
    rows = encoded(4).rows(np.array([3, 1]))
    assert rows.agent_pos.ravel().tolist() == [3, 1]
    assert rows.environment_state.ravel().tolist() == [-3, -1]
    assert rows.observation.images["top"].ravel().tolist() == [3, 1]
    assert rows.features.ravel().tolist() == [6, 2]
    assert rows.reward_features.ravel().tolist() == [9, 3]


def test_encoded_observation_updated_replaces_rows_in_a_copy() -> None:
    before = encoded(3)
    after = before.updated(np.array([0, 2]), encoded(2, offset=10))
    assert after.agent_pos.ravel().tolist() == [10, 1, 11]
    assert after.observation.images["top"].ravel().tolist() == [10, 1, 11]
    assert after.features.ravel().tolist() == [20, 2, 22]
    assert before.agent_pos.ravel().tolist() == [0, 1, 2]


def test_encoded_observation_without_features_has_zero_feature_columns() -> None:
    observation = EncodedObservation.without_features(encoded(3).observation)
    assert observation.features.shape == observation.reward_features.shape == (3, 0)
    assert observation.state.tolist() == [[0, 0], [1, -1], [2, -2]]


def test_steps_to_go_prediction_rows_keep_mean_std_and_quantiles_aligned() -> None:
    steps = np.arange(3, dtype=np.float32)
    prediction = StepsToGoPrediction(
        mean=steps, std=steps + 1, quantiles=np.stack([steps, steps, steps], axis=1)
    ).rows(slice(1, 3))
    assert prediction.mean.tolist() == [1, 2]
    assert prediction.std.tolist() == [2, 3]
    assert prediction.quantiles.tolist() == [[1, 1, 1], [2, 2, 2]]
