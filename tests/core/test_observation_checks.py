"""Observations of a program of one's own: their shapes, and the sentences about wrong ones."""

from dataclasses import replace

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.errors import EnvError
from nearer.core.observation_checks import as_rows, check_observation
from nearer.core.spaces import Camera, Spaces

SPACES = Spaces(agent_pos=2, environment_state=1, action=2)
CAMERA = Camera("top", 4, 6)
TWO_ROWS = Observation(
    agent_pos=np.zeros((2, 2), np.float32),
    environment_state=np.zeros((2, 1), np.float32),
    images={"top": np.zeros((2, 4, 6, 3), np.uint8)},
)


def test_as_rows_of_one_instant_adds_a_leading_axis() -> None:
    image = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    rows = as_rows(
        Observation(
            agent_pos=np.float32([1.5, 2.5]),
            environment_state=np.float32([3]),
            images={"top": image[:, ::-1]},
        )
    )
    assert rows.agent_pos.tolist() == [[1.5, 2.5]]
    assert rows.environment_state.tolist() == [[3.0]]
    assert np.array_equal(rows.images["top"], image[None, :, ::-1])
    assert rows.images["top"].flags.c_contiguous
    assert rows.images["top"].flags.writeable


def test_as_rows_of_several_instants_keeps_them() -> None:
    rows = as_rows(TWO_ROWS)
    assert rows.agent_pos.shape == (2, 2)
    assert rows.images["top"].shape == (2, 4, 6, 3)


def test_as_rows_of_read_only_arrays_gives_writable_copies() -> None:
    numbers = np.ones(2, np.float32)
    numbers.flags.writeable = False
    rows = as_rows(Observation(agent_pos=numbers, environment_state=numbers))
    rows.agent_pos[:] = 7
    assert numbers.tolist() == [1, 1]


def test_check_observation_of_the_models_sizes_passes() -> None:
    check_observation(TWO_ROWS, SPACES, [CAMERA])
    check_observation(replace(TWO_ROWS, images={}), SPACES)


@pytest.mark.parametrize(
    ("key", "shape", "sentence"),
    [
        ("agent_pos", (2, 3), "must have 2 numbers as agent_pos, .* got shape .3,. in 2 of 2 rows"),
        ("environment_state", (2, 0), r"1 numbers as environment_state, .* got shape \(0,\) in 2"),
    ],
)
def test_check_observation_of_another_size_is_refused(
    key: str, shape: tuple[int, int], sentence: str
) -> None:
    wrong = replace(TWO_ROWS, **{key: np.zeros(shape, np.float32)})
    with pytest.raises(EnvError, match=sentence):
        check_observation(wrong, SPACES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_observation_of_a_number_not_finite_is_refused(value: float) -> None:
    wrong = replace(TWO_ROWS, environment_state=np.float32([[0], [value]]))
    with pytest.raises(EnvError, match=r"^environment_state must be finite, .* check the sensor$"):
        check_observation(wrong, SPACES)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        ({}, "got none"),
        ({"side": TWO_ROWS.images["top"]}, "got none"),
        ({"top": np.zeros((2, 8, 6, 3), np.uint8)}, r"got uint8 of shape \(2, 8, 6, 3\)"),
        ({"top": np.zeros((2, 4, 6, 1), np.uint8)}, r"got uint8 of shape \(2, 4, 6, 1\)"),
    ],
)
def test_check_observation_of_another_image_is_refused(images: dict[str, Array], got: str) -> None:
    with pytest.raises(EnvError, match=rf"the image top, .* \(2, 4, 6, 3\), .* {got}; resize"):
        check_observation(replace(TWO_ROWS, images=images), SPACES, [CAMERA])
