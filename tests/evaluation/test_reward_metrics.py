"""Reward metrics of labelled episodes, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from nearer.evaluation.reward_metrics import (
    Evidence,
    reward_metrics,
    slice_metrics,
    spearman,
    true_steps,
)


def evidence(episodes: list[tuple[list[float], int | None]], spread: float = 0.0) -> Evidence:
    """Return episodes by their d, in whole steps, and from which observation on they are done."""
    d = np.concatenate([np.array(one, dtype=np.float32) for one, _ in episodes])
    edges = np.arange(40, dtype=np.float32)
    low, high = np.maximum(d - spread, 0).astype(int), (d + spread).astype(int)
    probabilities = (np.eye(40)[low] + np.eye(40)[high]).astype(np.float32) / 2
    success = [np.arange(len(one)) >= (99 if done is None else done) for one, done in episodes]
    return Evidence(
        name="by hand",
        labels="made up",
        instructions=tuple(f"task {row}" for row in range(len(episodes))),
        lengths=np.array([len(one) for one, _ in episodes]),
        probabilities=probabilities,
        edges=edges,
        success=np.concatenate(success),
    )


PERFECT = ([5.0, 4, 3, 2, 1, 0, 0], 5)


STUCK = ([5.0, 6, 6, 6], None)


def test_true_steps_are_counted_to_the_first_success() -> None:
    fulfilled = np.array([0, 0, 1, 0, 1, 0, 0, 1], dtype=bool)
    left = true_steps(fulfilled, np.array([5, 2, 1]))
    assert left.tolist() == [2, 1, 0, -1, -1, -1, -1, 0]


def test_spearman_by_hand() -> None:
    assert spearman(np.array([1, 2, 3]), np.array([10, 20, 90])) == pytest.approx(1)
    assert spearman(np.array([1, 2, 3]), np.array([9, 5, 1])) == pytest.approx(-1)
    # ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4: covariance 4.5 of variances 4.5 and 5
    assert spearman(np.array([7, 7, 8, 9]), np.arange(4)) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman(np.array([7, 7, 7]), np.arange(3)) == 0


def test_reward_metrics_of_a_perfect_model_and_a_failure() -> None:
    found = reward_metrics(evidence([PERFECT, STUCK]), width_steps=1)
    assert found.reliability.mean_absolute_error_steps == 0
    assert found.rank_correlation.mean == pytest.approx(1)
    assert [row.num_frames for row in found.by_distance] == [1, 1, 3, 1]
    assert sum(row.mean_absolute_error_steps for row in found.by_distance) == 0
    # d of 5, 6, 6, 6 where 3, 2, 1, 0 steps were left: it never promised to be done in time
    assert found.failures.promised == 0
    assert found.failures.promised_of_successes == 1
    assert found.failures.lowest_steps_to_go[1] == 5


def test_slice_metrics_by_hand() -> None:
    found = slice_metrics(evidence([PERFECT, STUCK, ([3.0, 3, 3], 2), ([0.0, 4], None)]), 0.5)
    assert (found.num_episodes, found.num_success, found.num_known_frames) == (4, 2, 9)
    assert found.mean_absolute_error_steps == pytest.approx((1 + 2 + 3) / 9)
    assert found.bias_steps == pytest.approx((1 + 2 + 3) / 9)
    assert (found.num_detections, found.num_correct_detections) == (
        2,
        1,
    )  # the last one was a false alarm


def test_spread_metrics_tell_whether_spread_follows_error() -> None:
    sure = [([float(k) for k in range(9, -1, -1)], 9)] * 30
    unsure = [([float(k + 4) for k in range(9, -1, -1)], 9)] * 30
    parts = evidence(sure, spread=0), evidence(unsure, spread=4)
    both = replace(
        parts[0],
        instructions=parts[0].instructions + parts[1].instructions,
        lengths=np.concatenate([one.lengths for one in parts]),
        probabilities=np.concatenate([one.probabilities for one in parts]),
        success=np.concatenate([one.success for one in parts]),
    )
    spread = reward_metrics(both, width_steps=1).spread
    assert spread.rank_correlation > 0.9
    errors = [row.mean_absolute_error_steps for row in spread.groups]
    assert errors[0] < 0.5
    assert errors[-1] > 3.5
    everywhere = reward_metrics(evidence(unsure, spread=4), width_steps=1).spread
    assert abs(everywhere.rank_correlation) < 0.6


def test_reward_metrics_group_errors_by_prediction_too() -> None:
    found = reward_metrics(evidence([([5.0, 5, 5, 5, 5, 0], 5), STUCK]), width_steps=1)
    by_truth = {row.from_steps: row.bias_steps for row in found.by_distance}
    assert by_truth == {0: 0, 1: 4, 2: pytest.approx(2), 5: 0}
    by_itself = {row.from_steps: row.bias_steps for row in found.by_predicted}
    assert by_itself == {0: 0, 5: pytest.approx(5 - 3)}
