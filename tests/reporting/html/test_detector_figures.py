"""Figures of the reward model: predicted steps-to-go, and the success detector based on them."""

import numpy as np
import pytest
from matplotlib.axes import Axes

from nearer.evaluation.calibration import Calibration, PredictionExample
from nearer.evaluation.reliability import Coverage, Reliability, TrueStepsGroup
from nearer.evaluation.threshold import DetectorCurve, ThresholdChoice
from nearer.reporting.html.colours import DATA, STAGE_1, stage_two_colour
from nearer.reporting.html.detector_figures import (
    paint_calibration,
    paint_distribution,
    paint_precision_recall,
    paint_predicted,
    paint_thresholds,
    source_colour,
)
from nearer.reporting.html.run_data import Report
from report_values import painted

CURVE = DetectorCurve(
    thresholds_steps=(0.1, 1.0, 10.0),
    precision=(1.0, 0.9, 0.5),
    recall=(0.0, 0.45, 0.5),
    num_detections=(0, 20, 40),
    delay_steps=(0.0, 1.5, 1.0),
    num_episodes=50,
    num_success=40,
)
CHOICE = ThresholdChoice(
    threshold_steps=1.0,
    rule="the best recall",
    at_threshold={"labelled rollouts": CURVE.at(1.0)},
    curves={"labelled rollouts": CURVE},
)


def lines(axes: Axes) -> list[tuple[list[float], list[float]]]:
    """Return x and y of every line."""
    return [
        (np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist())
        for line in axes.get_lines()
    ]


@pytest.mark.parametrize(
    ("source", "colour"),
    [
        ("held-out demonstrations", DATA),
        ("practised episodes", stage_two_colour(0)),
        ("rollouts", STAGE_1),
    ],
)
def test_source_colour_is_that_of_the_policy_or_of_the_data(source: str, colour: str) -> None:
    assert source_colour(source) == colour


def test_paint_thresholds_leaves_out_precision_without_detections() -> None:
    axes = painted(paint_thresholds(CHOICE))
    (x, precision), (_, recall), _ = lines(axes)
    assert x == [0.1, 1.0, 10.0]
    assert np.isnan(precision[0])
    assert precision[1:] == [0.9, 0.5]
    assert recall == [0.0, 0.45, 0.5]
    assert lines(axes)[2][0] == [1.0, 1.0], "the chosen threshold"


def test_paint_precision_recall_marks_the_chosen_threshold() -> None:
    axes = painted(paint_precision_recall(CHOICE))
    assert lines(axes)[-1] == ([18 / 40], [18 / 20])


def test_paint_predicted_without_groups_draws_the_diagonal_alone() -> None:
    coverage = Coverage(nominal=(), observed=())
    empty = Reliability(
        num_frames=0, mean_absolute_error_steps=0.0, by_true_steps=(), coverage=coverage
    )
    diagonal, mean = lines(painted(paint_predicted(empty)))
    assert diagonal == ([0, 1], [0, 1])
    assert mean == ([], [])


def test_paint_predicted_shows_mean_and_band() -> None:
    groups = [
        TrueStepsGroup(
            true_steps=true,
            predicted_mean=true + 1,
            predicted_p10=true,
            predicted_p90=true + 2,
            num_frames=20,
        )
        for true in (1.0, 4.0)
    ]
    reliability = Reliability(
        num_frames=40,
        mean_absolute_error_steps=1.0,
        by_true_steps=tuple(groups),
        coverage=Coverage(nominal=(), observed=()),
    )
    axes = painted(paint_predicted(reliability))
    assert lines(axes)[1] == ([1.0, 4.0], [2.0, 5.0])


def test_paint_calibration_shows_observed_against_nominal() -> None:
    axes = painted(paint_calibration(Coverage(nominal=(0.1, 0.9), observed=(0.2, 0.8))))
    assert lines(axes)[1] == ([0.1, 0.9], [0.2, 0.8])
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (0, 1))


def test_paint_distribution_leaves_out_bins_that_are_never_probable() -> None:
    example = PredictionExample(
        edges=(0.0, 2.0, 4.0, 6.0),
        probabilities=((0.2, 0.8, 0.0, 0.0), (0.9, 0.1, 0.0, 0.0)),
        steps_to_go=(1.6, 0.2),
    )
    axes = painted(paint_distribution(example))
    image = axes.get_images()[0].get_array()
    assert image is not None
    assert image.shape == (2, 2)
    assert lines(axes)[0] == ([0, 1], [1.6, 0.2])


def test_figures_of_a_real_calibration_are_painted(report: Report) -> None:
    calibration = report.stage_one[0].calibration
    assert isinstance(calibration, Calibration)
    assert len(lines(painted(paint_predicted(calibration.reliability)))) == 2
    threshold = calibration.threshold_steps
    assert lines(painted(paint_thresholds(calibration)))[-1][0] == [threshold, threshold]
