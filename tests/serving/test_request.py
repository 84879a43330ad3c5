"""Requests: names, defaults, and observations that do not fit the checkpoint."""

from typing import Any

import numpy as np
import pytest

from nearer.core.errors import MessageError
from nearer.serving.request import read_request
from serving_helpers import (
    INSTRUCTIONS,
    POINT_MASS,
    WITH_CAMERA,
    image_message,
    observation_with_image,
    state_message,
)


def test_read_request_openpis_names_and_defaults() -> None:
    message = state_message(1)
    request = read_request(message, POINT_MASS, ())
    assert np.array_equal(request.observation.agent_pos[0], message["observation/state"])
    assert (request.instruction, request.reset, request.act) == (None, False, True)


def test_read_request_lerobots_names_and_lists_of_numbers() -> None:
    message = {
        "observation.state": [1, 2, 3, 4.5],
        "observation.environment_state": [0.0, 1.0],
        "prompt": "go",
        "reset": True,
        "act": False,
    }
    request = read_request(message, POINT_MASS, ())
    assert request.observation.agent_pos.tolist() == [[1, 2, 3, 4.5]]
    assert (request.instruction, request.reset, request.act) == ("go", True, False)


def test_read_request_image_is_copied_to_writable_memory() -> None:
    observation = observation_with_image(0)
    observation.images["front"].flags.writeable = False
    request = read_request(image_message(observation), WITH_CAMERA, WITH_CAMERA.cameras)
    assert np.array_equal(request.observation.images["front"], observation.images["front"])
    assert request.observation.images["front"].flags.writeable


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"observation.state": [1.0]}, "observation.state must be 2 numbers"),
        ({"observation.state": [0.0, np.inf]}, "must be finite, got inf as number 1"),
        ({"observation.images.front": [1, 2]}, "must be uint8 RGB of 96 x 128 x 3"),
        ({"observation.images.front": None}, "must have the image observation.images.front"),
        ({"prompt": 7}, "prompt must be the instruction"),
        ({"prompt": "x" * 1001}, "up to 1000 characters, got 1001 characters"),
        ({"act": 1}, "act must be true or false"),
    ],
)
def test_read_request_wrong_value_is_refused(changes: dict[str, Any], sentence: str) -> None:
    good = image_message(observation_with_image(0), prompt=INSTRUCTIONS[0])
    with pytest.raises(MessageError, match=sentence):
        read_request(good | changes, WITH_CAMERA, WITH_CAMERA.cameras)
