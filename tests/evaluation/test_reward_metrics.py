"""Reward metrics of labelled episodes that are chosen by hand."""

from dataclasses import replace

import numpy as np
import pytest

from evidence_values import PERFECT, STUCK, evidence
from nearer.evaluation.reward_metrics import (
    reward_metrics,
    slice_metrics,
    spearman,
    true_steps,
)


def test_true_steps_count_to_the_next_success_of_an_episode() -> None:
    success = np.array([0, 0, 1, 0, 1, 0, 0, 1], dtype=bool)
    left = true_steps(success, np.array([5, 2, 1]))
    assert left.tolist() == [2, 1, 0, -1, -1, -1, -1, 0]


def test_spearman_with_and_without_ties_equals_numbers_by_hand() -> None:
    assert spearman(np.array([1, 2, 3]), np.array([10, 20, 90])) == pytest.approx(1)
    assert spearman(np.array([1, 2, 3]), np.array([9, 5, 1])) == pytest.approx(-1)
    # ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4: covariance 4.5 of variances 4.5 and 5
    assert spearman(np.array([7, 7, 8, 9]), np.arange(4)) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman(np.array([7, 7, 7]), np.arange(3)) == 0


def test_reward_metrics_of_a_perfect_model_have_no_error() -> None:
    metrics = reward_metrics(evidence([PERFECT, STUCK]), width_steps=1)
    assert metrics.reliability.mean_absolute_error_steps == 0
    assert metrics.rank_correlation.mean == pytest.approx(1)
    assert [row.num_frames for row in metrics.by_distance] == [1, 1, 3, 1]
    assert sum(row.mean_absolute_error_steps for row in metrics.by_distance) == 0
    # d of 5, 6, 6, 6 where 3, 2, 1, 0 steps were left: it never predicted an end in time
    assert metrics.failures.promised == 0
    assert metrics.failures.promised_of_successes == 1
    assert metrics.failures.lowest_steps_to_go[1] == 5


def test_slice_metrics_of_four_episodes_equal_numbers_by_hand() -> None:
    metrics = slice_metrics(evidence([PERFECT, STUCK, ([3.0, 3, 3], 2), ([0.0, 4], None)]), 0.5)
    assert (metrics.num_episodes, metrics.num_success, metrics.num_known_frames) == (4, 2, 9)
    assert metrics.mean_absolute_error_steps == pytest.approx((1 + 2 + 3) / 9)
    assert metrics.bias_steps == pytest.approx((1 + 2 + 3) / 9)
    # the last detection is a false alarm
    assert (metrics.num_detections, metrics.num_correct_detections) == (2, 1)


def test_spread_metrics_of_spread_that_follows_error_are_correlated() -> None:
    sure = [([float(k) for k in range(9, -1, -1)], 9)] * 30
    unsure = [([float(k + 4) for k in range(9, -1, -1)], 9)] * 30
    parts = evidence(sure, spread=0), evidence(unsure, spread=4)
    both = replace(
        parts[0],
        instructions=parts[0].instructions + parts[1].instructions,
        lengths=np.concatenate([part.lengths for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        success=np.concatenate([part.success for part in parts]),
    )
    spread = reward_metrics(both, width_steps=1).spread
    assert spread.rank_correlation > 0.9
    errors = [row.mean_absolute_error_steps for row in spread.groups]
    assert errors[0] < 0.5
    assert errors[-1] > 3.5
    everywhere = reward_metrics(evidence(unsure, spread=4), width_steps=1).spread
    assert abs(everywhere.rank_correlation) < 0.6


def test_reward_metrics_errors_are_grouped_by_truth_and_by_prediction() -> None:
    metrics = reward_metrics(evidence([([5.0, 5, 5, 5, 5, 0], 5), STUCK]), width_steps=1)
    by_truth = {row.from_steps: row.bias_steps for row in metrics.by_distance}
    assert by_truth == {0: 0, 1: 4, 2: pytest.approx(2), 5: 0}
    by_itself = {row.from_steps: row.bias_steps for row in metrics.by_predicted}
    assert by_itself == {0: 0, 5: pytest.approx(5 - 3)}
