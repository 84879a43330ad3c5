"""Settings of an ALOHA env: spaces, and arguments that are refused."""

from typing import Any

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.envs.aloha.settings import action_space, read_settings

LIMITS_RAD = np.stack([np.full((2, 6), -1.5), np.full((2, 6), 2.0)], axis=-1)


def test_action_space_has_the_joints_limits_and_grippers_from_0_to_1() -> None:
    space = action_space(LIMITS_RAD)
    assert space.low.tolist() == [*[-1.5] * 6, 0.0] * 2
    assert space.high.tolist() == [*[2.0] * 6, 1.0] * 2


def test_observation_space_holds_what_is_asked_for() -> None:
    everything = read_settings("insertion", object_poses=True).observation_space()
    assert everything["agent_pos"].shape == (14,)
    assert everything["environment_state"].shape == (14,)
    assert list(everything["pixels"]) == ["front_close", "right_wrist"]
    assert everything["pixels"]["right_wrist"].shape == (96, 128, 3)
    cube = read_settings("transfer_cube", images=False, object_poses=True)
    assert cube.observation_space()["environment_state"].shape == (7,)
    assert list(read_settings("insertion", images=False).observation_space()) == ["agent_pos"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"task": "dance"}, "task must be one of insertion, transfer_cube, got 'dance'"),
        ({"cameras": ("front", "attic")}, r"cameras must be different ones of front, .*attic"),
        ({"cameras": "front"}, "cameras must be different ones of"),
        ({"cameras": ()}, "cameras must be different ones of"),
        ({"cameras": ("top", "top")}, "cameras must be different ones of"),
        ({"camera_hz": 0}, "camera_hz must divide the 50 control steps a second, got 0"),
        ({"camera_hz": 15}, "camera_hz must divide the 50 control steps a second, got 15"),
        ({"camera_hz": 100}, "camera_hz must divide the 50 control steps a second, got 100"),
        ({"height": 0}, "height and width must be at least one pixel, got 0 and 128"),
    ],
)
def test_settings_without_meaning_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence):
        read_settings(**{"task": "insertion", **arguments})
