"""Values beside their spaces, and what the difference is likely to come of."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, MultiBinary

from nearer.testing.env_report import Severity
from nearer.testing.env_spaces_check import (
    check_action_space,
    check_image,
    check_info,
    check_instruction,
    check_value,
)

JOINTS = Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("value", "sentence", "cause"),
    [
        ([0.5, 0.5], "must be float32, got float64", "Python's floats"),
        (np.zeros(2, np.int64), "must be float32, got int64", "the sensor counts"),
        ([0.5, None], "must be an array of float32, got [0.5, None]", "gave None or text"),
        ([[0.5], [0.5, 0.1]], "must be an array of float32", "different lengths"),
        (np.zeros(3, np.float32), "must have shape (2,), got (3,)", "another number of joints"),
        (np.array([0, 1.4], np.float32), "must lie within observation_space, got 1.4", "guesses"),
        (np.array([0, 80], np.float32), "must lie within observation_space, got 80", "degrees"),
        (np.array([0, np.inf], np.float32), "must be finite, got inf", "did not answer"),
    ],
)
def test_numbers_that_do_not_fit(value: Any, sentence: str, cause: str) -> None:
    (found,) = check_value(JOINTS, value, "agent_pos")
    assert found.sentence.startswith("agent_pos ")
    assert sentence in found.sentence
    assert cause in found.likely_cause


def test_values_that_fit_are_no_finding() -> None:
    space: Any = Dict({"agent_pos": JOINTS, "lamps": MultiBinary(2)})
    fits = {"agent_pos": np.array([1, -1], np.float32), "lamps": np.array([0, 1], np.int8)}
    assert not list(check_value(space, fits))
    (found,) = check_value(space, fits | {"lamps": np.array([0, 3], np.int8)})
    assert "lamps must be in MultiBinary(2)" in found.sentence
    (found,) = check_value(space, [0, 1])
    assert "must be a dict with agent_pos, lamps, got list" in found.sentence


def test_entries_of_nested_dicts_are_named_with_slashes() -> None:
    cameras: Any = Dict({"top": Box(0, 255, (4, 4, 3), np.uint8)})
    space: Any = Dict({"pixels": cameras})
    (found,) = check_value(space, {"pixels": {"top": np.zeros((4, 4, 1), np.uint8)}})
    assert found.sentence == "pixels/top must have shape (4, 4, 3), got (4, 4, 1)"


def test_limits_of_an_axis_without_room_are_an_error() -> None:
    (found,) = check_action_space(Box(np.array([0.0, 1.0]), np.array([1.0, 1.0]), dtype=np.float64))
    assert found.severity is Severity.ERROR
    assert "got 1.0 to 1.0 for axis 1" in found.sentence
    assert not list(check_action_space(JOINTS))


def test_image_of_one_colour_is_no_scene() -> None:
    grey = np.full((4, 4, 3), 128, np.uint8)
    assert list(check_image("front", grey))
    grey[0, 0, 0] = 0
    assert not list(check_image("front", grey))


def test_info_may_say_success_and_the_instruction() -> None:
    assert not list(check_info({"is_success": np.bool_(False), "instruction": "go"}, "reset"))
    assert not list(check_info({"is_success": np.True_}, "step"))
    assert not list(check_info({}, "reset"))
    (found,) = check_info({"success": np.array([True])}, "step")
    assert "success must be true or false" in found.sentence
    (found,) = check_info({"instruction": " "}, "reset")
    assert "must be a sentence" in found.sentence


def test_missing_instruction_is_a_note() -> None:
    assert not list(check_instruction("go"))
    (found,) = check_instruction(None)
    assert found.severity is Severity.NOTE
