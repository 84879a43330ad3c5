"""Observations of any shape as lerobot's keys, in a stated order, or refused with the reason."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from nearer.core.errors import EnvError
from nearer.core.spaces import Camera
from nearer.fleets.observation_reader import observation_reader, read_observation

NUMBERS = Box(-1, 1, (2,))
IMAGE = Box(0, 255, (4, 6, 3), np.uint8)


def test_reader_takes_lerobots_keys_and_says_what_it_leaves() -> None:
    space = Dict({"agent_pos": NUMBERS, "environment_state": NUMBERS, "goal": NUMBERS})
    reader = observation_reader(space, {})
    read = reader.read({"agent_pos": [1, 2], "environment_state": [3, 4], "goal": [5, 6]})
    assert (read.agent_pos.tolist(), read.environment_state.tolist()) == ([1, 2], [3, 4])
    assert reader.unread == (("goal", "agent_pos"),)


def test_reader_flattens_matrices_by_row_and_dicts_by_name() -> None:
    space = Dict(
        {
            "agent_pos": Dict(
                {"right": Box(-1, 1, (2, 2)), "left": Box(-1, 1, ()), "on": MultiBinary(2)}
            )
        }
    )
    reader = observation_reader(space, {})
    raw = {"agent_pos": {"right": [[1, 2], [3, 4]], "left": 9.0, "on": [0, 1]}}
    assert reader.read(raw).agent_pos.tolist() == [9, 0, 1, 1, 2, 3, 4]
    assert reader.widths == {"agent_pos": 7, "environment_state": 0}


def test_reader_of_a_batch_keeps_a_row_a_robot() -> None:
    reader = observation_reader(Dict({"agent_pos": Box(-1, 1, (2, 2)), "pixels": IMAGE}), {})
    raw = {"agent_pos": np.zeros((3, 2, 2)), "pixels": np.zeros((3, 4, 6, 3), np.uint8)}
    read = reader.read(raw, batch_axes=1)
    assert (read.agent_pos.shape, read.environment_state.shape) == ((3, 4), (3, 0))
    assert read.images["pixels"].shape == (3, 4, 6, 3)


def test_reader_of_a_bare_vector_is_agent_pos_and_of_a_bare_image_the_camera_pixels() -> None:
    assert observation_reader(Box(-1, 1, (39,)), {}).widths["agent_pos"] == 39
    reader = observation_reader(IMAGE, {})
    assert reader.cameras == (Camera("pixels", 4, 6),)
    assert reader.read(np.ones((4, 6, 3), np.uint8)).images["pixels"].sum() == 72
    renamed = observation_reader(NUMBERS, {"observation": "environment_state"})
    assert renamed.read([1, 2]).environment_state.tolist() == [1, 2]


def test_reader_renames_in_the_order_of_the_flags() -> None:
    space = Dict({"robot": Dict({"arm": NUMBERS, "hand": NUMBERS}), "top": IMAGE, "side": IMAGE})
    renamed = {
        "robot/hand": "agent_pos",
        "robot/arm": "agent_pos",
        "top": "pixels/above",
        "side": "pixels",
    }
    reader = observation_reader(space, renamed)
    raw = {
        "robot": {"arm": [1, 2], "hand": [3, 4]},
        "top": np.zeros((4, 6, 3), np.uint8),
        "side": np.ones((4, 6, 3), np.uint8),
    }
    read = reader.read(raw)
    assert read.agent_pos.tolist() == [3, 4, 1, 2]
    assert {camera: int(image.max()) for camera, image in read.images.items()} == {
        "above": 0,
        "pixels": 1,
    }
    whole = observation_reader(space, {"robot": "agent_pos"})
    assert whole.read(raw).agent_pos.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("space", "renamed", "sentence"),
    [
        (
            Dict({"state": NUMBERS}),
            {},
            r"got state \(Box, .*name yours with --rename KEY=agent_pos",
        ),
        (Dict({}), {}, "must observe agent_pos"),
        (Dict({"agent_pos": Discrete(3)}), {}, "values are categories, not quantities"),
        (Dict({"agent_pos": MultiDiscrete([3, 2])}), {}, "values are categories"),
        (Dict({"agent_pos": Text(5)}), {}, "must be a Box of numbers, got agent_pos .Text"),
        (Dict({"agent_pos": Tuple([NUMBERS])}), {}, "must be a Box of numbers"),
        (Dict({"agent_pos": IMAGE}), {}, "must be numbers, got the image agent_pos"),
        (Dict({"pixels": Box(0, 255, (3, 64, 64), np.uint8)}), {}, "whose channels come first"),
        (Dict({"pixels": Box(0, 255, (64, 64, 1), np.uint8)}), {}, "not red, green and blue"),
        (Dict({"pixels": Box(0, 255, (64, 64), np.uint8)}), {}, "not red, green and blue"),
        (Dict({"pixels": Box(0, 1, (64, 64, 3), np.float32)}), {}, "which is not uint8"),
        (NUMBERS, {"joints": "agent_pos"}, "must name what the env observes, got 'joints'"),
        (Dict({"a": IMAGE, "b": IMAGE}), {"a": "pixels", "b": "pixels"}, "one image for camera"),
    ],
)
def test_reader_of_what_it_cannot_read_is_refused(
    space: Any, renamed: dict[str, str], sentence: str
) -> None:
    with pytest.raises(EnvError, match=sentence):
        observation_reader(space, renamed)


def test_refusal_names_the_envs_own_setting() -> None:
    with pytest.raises(EnvError, match=r"obs_type=\.\.\., or name yours"):
        observation_reader(Dict({"top": IMAGE}), {}, "choose with --env-kwargs obs_type=..., or ")


def test_read_observation_of_lerobots_keys_needs_no_space() -> None:
    read = read_observation({"agent_pos": [1.0], "pixels": {"top": np.zeros((2, 2, 3), np.uint8)}})
    assert (read.agent_pos.tolist(), read.environment_state.shape) == ([1.0], (0,))
    assert list(read.images) == ["top"]
