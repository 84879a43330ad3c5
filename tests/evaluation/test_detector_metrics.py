"""Any number of each frame as a success detector, on episodes chosen by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence_values import PERFECT, STUCK, evidence
from nearer.core.arrays import Array
from nearer.evaluation.detector_metrics import (
    PrecisionGap,
    area_under_curve,
    average_precision,
    detector_metrics,
    precision_gap,
)


def float32(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


def test_average_precision_of_three_frames_equals_number_by_hand() -> None:
    # in the order yes, no, yes: precision 1 at recall 1/2, 2/3 at recall 1
    precision = average_precision(float32(1, 2, 3), np.array([True, False, True]))
    assert precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # frames with equal numbers are detected together
    assert average_precision(float32(0, 0, 0, 0), np.array([True, False, False, False])) == 0.25
    assert average_precision(float32(0, 0), np.zeros(2, dtype=bool)) is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=1))
def test_average_precision_weighted_equals_repeated_frames(
    frames: list[tuple[int, bool, int]],
) -> None:
    columns = [np.array(column) for column in zip(*frames, strict=True)]
    distance, positive, weight = float32(*columns[0]), columns[1], columns[2]
    many = distance.repeat(weight), positive.repeat(weight)
    repeated = average_precision(*many) if weight.any() else None
    weighted = average_precision(distance, positive, weight.astype(np.float64))
    assert weighted == (repeated if repeated is None else pytest.approx(repeated))


def test_area_under_curve_of_four_episodes_equals_number_by_hand() -> None:
    lowest, succeeded = float32(0, 2, 1, 2), np.array([True, True, False, False])
    assert area_under_curve(lowest, succeeded) == (2 + 0 + 0.5) / 4
    assert area_under_curve(lowest, np.ones(4, dtype=bool)) is None


def test_detector_metrics_measure_a_threshold_on_the_other_half() -> None:
    honest = [PERFECT, PERFECT] * 10
    metrics = detector_metrics(evidence(honest).steps_to_go, evidence(honest), 0.9)
    assert (metrics.num_detections, metrics.num_correct_detections, metrics.num_success) == (
        20,
        20,
        20,
    )
    # Even episodes end at d = 0, odd ones at d = 4: a threshold of one half fails on the other.
    odd = [([9.0, 8, 7, 6, 5, 4, 4], 5), PERFECT] * 10
    metrics = detector_metrics(evidence(odd).steps_to_go, evidence(odd), 0.9)
    assert (metrics.num_detections, metrics.num_correct_detections) == (10, 0)


def test_detector_metrics_leave_out_frames_after_success() -> None:
    # The first number is right up to success and wrong after it; the second the other way round.
    labels = evidence([([3.0, 2, 1, 0, 0, 0], 3), ([5.0, 5, 5, 5], None)] * 10)
    before = np.tile(float32(3, 2, 1, 0, 9, 9, 5, 5, 5, 5), 10)
    after = np.tile(float32(0, 0, 0, 4, 0, 0, 5, 5, 5, 5), 10)
    assert detector_metrics(before, labels, 0.9).average_precision == 1
    assert detector_metrics(after, labels, 0.9).average_precision == 0.25
    gap = precision_gap([before], [after], labels, np.random.default_rng(0))
    assert gap is not None
    assert gap.ci95[0] > 0.5
    # A success that is detected long after it happened looks like a failure.
    late = np.tile(float32(9, 9, 9, 9, 0, 0, 5, 5, 5, 5), 10)
    assert detector_metrics(late, labels, 0.9).success_auc == 0


def test_detector_metrics_of_small_halves_choose_no_threshold() -> None:
    few = evidence([PERFECT, STUCK] * 9)
    metrics = detector_metrics(few.steps_to_go, few, 0.9)
    assert (metrics.num_detections, metrics.num_correct_detections, metrics.num_success) == (
        0,
        0,
        0,
    )
    assert metrics.halves == ()
    one_sided = evidence([PERFECT, STUCK] * 10)  # all successes in one half
    assert detector_metrics(one_sided.steps_to_go, one_sided, 0.9).halves == ()
    vague = evidence([([5.0, 1, 1], 2), PERFECT, ([5.0, 1, 1], None), STUCK] * 6)
    halves = detector_metrics(vague.steps_to_go, vague, 0.9).halves
    assert [half.is_precise_enough for half in halves] == [False, True]


def test_precision_gap_of_a_number_to_itself_is_zero() -> None:
    labels = evidence([PERFECT, STUCK] * 5)
    d, rng = labels.steps_to_go, np.random.default_rng(0)
    assert precision_gap([d], [d, d], labels, rng) == PrecisionGap(mean=0.0, ci95=(0.0, 0.0))
    worse = precision_gap([d], [-d], labels, np.random.default_rng(0))
    assert worse.ci95[0] > 0
