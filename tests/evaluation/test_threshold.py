"""The detector's curve and the choice of its threshold, by hand."""

import numpy as np
import pytest

from nearer.evaluation.threshold import (
    LabelledEpisode,
    choose_threshold,
    detector_curve,
    threshold_choice,
)


def labelled(d: list[float], success_from: int | None) -> LabelledEpisode:
    truth = np.zeros(len(d), dtype=bool)
    if success_from is not None:
        truth[success_from:] = True
    return LabelledEpisode(steps_to_go=np.array(d, dtype=np.float32), success=truth)


def test_detector_curve_of_four_episodes_equals_numbers_by_hand() -> None:
    episodes = [
        labelled([9, 5, 2, 0.5], 3),  # right at s = 1; too early at s = 2
        labelled([9, 1, 0.2, 0.1], None),  # a false alarm at s = 1
        labelled([9, 9, 3, 0.9], 2),  # right, one step late, at s = 1
        labelled([9, 9, 9, 9], 3),  # missed
    ]
    curve = detector_curve(episodes, [0.05, 1, 2, 3])
    assert curve.num_detections == (0, 3, 3, 3)
    assert curve.precision == pytest.approx((1, 2 / 3, 1 / 3, 1 / 3))
    assert curve.recall == pytest.approx((0, 2 / 3, 1 / 3, 1 / 3))
    assert curve.delay_steps[1] == pytest.approx(0.5)
    assert (curve.num_episodes, curve.num_success) == (4, 3)


def test_choose_threshold_of_precise_ones_takes_the_best_recall() -> None:
    good = [labelled([9, 5, 2, 0.5], 3)] * 9
    curves = {"a": detector_curve([*good, labelled([9, 1.5, 1.5, 1.5], None)], [0.1, 0.5, 1, 1.6])}
    assert choose_threshold(curves, min_precision=0.95) == 0.5
    assert choose_threshold(curves, min_precision=0.5) == 0.5
    strict = {"b": detector_curve([labelled([0.3], None), labelled([0.4], 0)], [0.1, 0.35, 0.45])}
    # no threshold is precise enough: the best F1
    assert choose_threshold(strict, min_precision=0.9) == 0.45


@pytest.mark.parametrize(("false_alarms", "expected"), [(8, 0.5), (10, 0.5), (11, 0.2)])
def test_choose_threshold_forgives_less_than_a_standard_error(
    false_alarms: int, expected: float
) -> None:
    """Of 80 detections 8 may be wrong at 0.9, 2.7 more are a standard error."""
    sure = [labelled([0.1], 0)] * 40
    usual = [labelled([0.4], 0)] * (40 - false_alarms)
    curves = {
        "a": detector_curve([*sure, *usual, *[labelled([0.4], None)] * false_alarms], [0.2, 0.5])
    }
    assert choose_threshold(curves, min_precision=0.9) == expected


def test_choose_threshold_without_a_precise_one_takes_the_best_f1() -> None:
    sure_and_rare = [labelled([0.1], 0)] * 2 + [labelled([0.1], None)]
    usual = [labelled([0.4], 0)] * 12 + [labelled([0.4], None)] * 7
    curves = {"a": detector_curve([*sure_and_rare, *usual], [0.2, 0.5])}
    assert curves["a"].precision == pytest.approx((2 / 3, 14 / 22))
    assert choose_threshold(curves, min_precision=0.9) == 0.5


def test_threshold_choice_of_a_detector_never_right_names_the_source() -> None:
    curves = {"rollouts": detector_curve([labelled([0.3, 0.1], None), labelled([9.0, 9.0], 1)])}
    choice = threshold_choice(curves, 0.9, ["rollouts"])
    assert "none rightly detects anything on rollouts" in choice.rule
    good = {"rollouts": detector_curve([labelled([9.0, 0.1], 1)] * 5)}
    assert threshold_choice(good, 0.9, ["rollouts"]).rule.startswith("the best recall")
