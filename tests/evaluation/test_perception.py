"""Rates of wrong positions, on frames that are made up by hand."""

import math

import numpy as np
import pytest

from nearer.evaluation.perception import (
    EFFECTOR,
    FIRST,
    SECOND,
    covered_by_effector,
    object_errors,
)
from perception_values import tracked

CAMERA_M = np.array([1.0, 0.0])


@pytest.mark.parametrize(
    ("effector", "is_covered"),
    [
        ([0.33, 0.0], True),
        ([0.33, 0.011], True),
        ([0.33, 0.013], False),
        ([0.304, 0.0], False),
        ([0.371, 0.0], False),
        ([0.27, 0.0], False),
    ],
)
def test_covered_by_effector_is_on_the_line_of_sight_and_in_front(
    effector: list[float], is_covered: bool
) -> None:
    positions, effectors = np.array([[0.3, 0.0]]), np.array([effector])
    assert covered_by_effector(positions, effectors, CAMERA_M).tolist() == [is_covered]


def test_object_errors_counts_frames_by_group() -> None:
    # The object stands still; the effector is far, near beside it, and in front of it.
    effector = [[0.5, 0.3], [0.3, 0.03], [0.33, 0.0], [0.33, 0.0]]
    off_m = [0.021, 0.005, 0.030, 0.001]
    errors = object_errors([tracked(off_m, effector=effector)], FIRST)
    assert (errors.all.wrong, errors.all.frames, errors.all.episodes) == (2, 4, 1)
    assert (errors.far.wrong, errors.far.frames) == (1, 1)
    assert (errors.near.wrong, errors.near.frames) == (0, 1)
    assert (errors.covered.wrong, errors.covered.frames) == (1, 2)
    assert errors.median_mm == pytest.approx(3.0, abs=1e-3)


def test_object_errors_beyond_20_mm_are_wrong() -> None:
    assert object_errors([tracked([0.0199, 0.0201])], FIRST).all.wrong == 1


def test_object_errors_interval_counts_alike_frames_of_an_episode_once() -> None:
    alike = [tracked([off] * 50, seed=seed) for seed, off in enumerate((0.03, 0.0, 0.0, 0.0))]
    rate = object_errors(alike, FIRST).all
    assert rate.value == 0.25
    assert rate.ci95[1] - rate.ci95[0] > 0.5, "four episodes, not 200 frames"


def test_object_errors_of_an_object_that_no_instruction_names_are_of_no_frames() -> None:
    errors = object_errors([tracked([0.0, 0.0])], SECOND)
    assert errors.all.frames == 0
    assert math.isnan(errors.all.value)
    assert errors.median_mm is None


def test_errors_m_is_the_distance_on_the_table() -> None:
    episode = tracked([0.0, 0.025])
    assert episode.errors_m[:, FIRST] == pytest.approx([0.0, 0.025], abs=1e-6)
    assert episode.errors_m[:, EFFECTOR] == pytest.approx([0.0, 0.0], abs=1e-6)
