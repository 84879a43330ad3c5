"""Intervals of rates and of seeds, against published numbers and by hand."""

import math

import numpy as np
import pytest

from nearer.core.intervals import Rate, clustered_interval, seed_interval, sign_test


def test_rate_interval_equals_published_numbers() -> None:
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I: 81/263, 15/148, 0/20, 1/29
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605)}
    published |= {(0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (wins, total), interval in published.items():
        got = Rate(successes=wins, total=total).interval
        assert got == pytest.approx(interval, abs=6e-5)


def test_rate_without_trials_is_nan_with_the_widest_interval() -> None:
    assert math.isnan(Rate(successes=0, total=0).value)
    assert Rate(successes=0, total=0).interval == (0.0, 1.0)


def test_seed_interval_of_three_seeds_equals_numbers_by_hand() -> None:
    low, high = seed_interval([0.1, 0.2, 0.3])
    assert (low, high) == pytest.approx((0.2 - 4.3 * 0.1 / 3**0.5, 0.2 + 4.3 * 0.1 / 3**0.5))


def test_sign_test_of_wins_and_losses_equals_numbers_by_hand() -> None:
    assert sign_test(0, 0) == 1
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(1, 4) == pytest.approx(2 * (1 + 5) / 32)
    assert sign_test(3, 3) == 1


def test_clustered_interval_of_independent_trials_is_wilsons() -> None:
    rng = np.random.default_rng(0)
    won = (rng.random((400, 5)) < 0.3).sum(axis=1).tolist()
    low, high = clustered_interval(won, [5] * 400)
    wilson = Rate(successes=sum(won), total=2000).interval
    assert (low, high) == pytest.approx(wilson, abs=0.004)


def test_clustered_interval_of_alike_trials_is_that_of_the_clusters() -> None:
    won = [10, 10, 0, 0] * 10
    clusters = Rate(successes=20, total=40).interval
    assert clustered_interval(won, [10] * 40) == pytest.approx(clusters, abs=0.01)


@pytest.mark.parametrize("won", [0, 5])
def test_clustered_interval_where_all_agree_counts_each_cluster_once(won: int) -> None:
    alike = Rate(successes=won and 3, total=3).interval
    assert clustered_interval([won] * 3, [5] * 3) == alike


def test_clustered_interval_without_trials_knows_nothing() -> None:
    assert clustered_interval([], []) == clustered_interval([0], [0]) == (0.0, 1.0)
