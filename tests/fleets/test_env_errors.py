"""What goes wrong inside an env of anybody's, as a sentence that names the env."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.errors import ConfigError, EnvError
from nearer.core.spaces import Camera, Spaces
from nearer.fleets.env_errors import checked, making, running

SPACES = Spaces(agent_pos=2, environment_state=1, action=2, cameras=(Camera("top", 4, 6),))
OBSERVED = Observation(
    agent_pos=np.zeros((2, 2), np.float32),
    environment_state=np.zeros((2, 1), np.float32),
    images={"top": np.zeros((2, 4, 6, 3), np.uint8)},
)


@pytest.mark.parametrize(
    ("seeds", "named"),
    [
        ([], ""),
        ([None], ""),
        ([7], " with seed 7"),
        ([7, None, 8], " with seeds 7, 8"),
        ([1, 2, 3], " with seeds 1, 2, 3"),
        ([1, 2, 3, 4], " with seeds 1, 2, 3, ..."),
    ],
)
def test_running_an_env_that_raises_names_call_error_and_seeds(
    seeds: list[int | None], named: str
) -> None:
    broken = KeyError("joint")
    with pytest.raises(EnvError) as raised, running("my/Arm-v0", "step", seeds):
        raise broken
    assert str(raised.value) == (
        f"my/Arm-v0 must step without an error, got KeyError: 'joint'{named}; what was finished is "
        "written, mend the env, NEARER_TRACEBACK=1 shows where it failed"
    )
    assert raised.value.__cause__ is broken


def test_running_an_env_that_raises_without_a_text_names_the_kind_of_error() -> None:
    with pytest.raises(EnvError, match="got AssertionError; what"), running("my/Arm-v0", "reset"):
        raise AssertionError


@pytest.mark.parametrize("error", [ConfigError("mine"), KeyboardInterrupt()])
def test_running_lets_sentences_of_nearer_and_ctrl_c_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, running("my/Arm-v0", "step"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("error", [ImportError("no module mujoco"), gymnasium.error.Error("old")])
def test_making_an_env_whose_package_is_missing_says_to_install_it(error: Exception) -> None:
    with pytest.raises(EnvError) as raised, making("my/Arm-v0"):
        raise error
    assert str(raised.value) == (
        f"my/Arm-v0 must be an env that can be made here, got: {error}; install what it needs"
    )


def test_making_an_env_that_raises_says_to_mend_it() -> None:
    sentence = "my/Arm-v0 must be made without an error, got TypeError: size; .* mend the env"
    with pytest.raises(EnvError, match=sentence), making("my/Arm-v0"):
        raise TypeError("size")


def test_checked_observation_that_keeps_its_promise_is_returned() -> None:
    assert checked("my/Arm-v0", SPACES, OBSERVED) is OBSERVED


@pytest.mark.parametrize(
    ("key", "width", "sentence"),
    [
        ("agent_pos", 3, r"must observe 2 numbers as agent_pos, .* got shape \(3,\); mend the env"),
        ("environment_state", 0, r"1 numbers as environment_state, .* got shape \(0,\)"),
    ],
)
def test_checked_observation_of_another_size_is_refused(
    key: str, width: int, sentence: str
) -> None:
    wrong = replace(OBSERVED, **{key: np.zeros((2, width), np.float32)})
    with pytest.raises(EnvError, match=sentence):
        checked("my/Arm-v0", SPACES, wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_checked_observation_of_a_number_not_finite_is_refused(value: float) -> None:
    wrong = replace(OBSERVED, agent_pos=np.float32([[0, 0], [0, value]]))
    with pytest.raises(EnvError, match=f"finite numbers, got {value} in agent_pos; mend the env"):
        checked("my/Arm-v0", SPACES, wrong)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        ({}, "got none"),
        ({"top": np.zeros((2, 6, 4, 3), np.uint8)}, r"got uint8 of shape \(6, 4, 3\)"),
        ({"top": np.zeros((2, 4, 6, 1), np.uint8)}, r"got uint8 of shape \(4, 6, 1\)"),
    ],
)
def test_checked_observation_of_another_image_is_refused(
    images: dict[str, Array], got: str
) -> None:
    with pytest.raises(EnvError, match=rf"show camera top as uint8 of shape \(4, 6, 3\), .* {got}"):
        checked("my/Arm-v0", SPACES, replace(OBSERVED, images=images))
