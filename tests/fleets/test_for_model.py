"""Fleets that fit a model: what is compared, what is put around them, how many robots have room."""

from collections.abc import Iterator
from dataclasses import replace

import gymnasium
import pytest

from model_inputs import SPACES as CAMERA_SPACES
from nearer.algorithm.model import FoundationModel
from nearer.core.action_chunks import Chunking
from nearer.core.errors import ConfigError, EnvError
from nearer.core.spaces import Spaces
from nearer.envs.point_mass import PointMass
from nearer.fleets.for_model import (
    check_same_chunks,
    fitting_fleet,
    robots_with_room,
    unencoded_fleet,
)
from nearer.fleets.gym import make_fleet
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.testing import check_fleet

ENV = "nearer/PointMass-v0"
SIZES = Spaces(agent_pos=4, environment_state=2, action=2)


def mlp(spaces: Spaces = SIZES) -> FoundationModel:
    return new_model("mlp", MLPConfig(hidden=4), spaces, (), seed=0)


def test_fitting_fleet_for_a_plain_model_is_the_envs_own() -> None:
    fleet = fitting_fleet(ENV, 3, mlp())
    assert fleet.spaces == make_fleet(ENV, 3).spaces
    assert fleet.num_robots == 3


def test_unencoded_fleet_for_a_model_in_chunks_takes_single_control_steps() -> None:
    fleet = unencoded_fleet(ENV, 2, mlp(SIZES.in_chunks(Chunking(chunk=3))))
    assert fleet.spaces == make_fleet(ENV, 2).spaces


def test_fitting_fleet_for_a_model_in_chunks_steps_by_chunks() -> None:
    fleet = fitting_fleet(ENV, 2, mlp(SIZES.in_chunks(Chunking(chunk=3))))
    assert (fleet.spaces.action, fleet.spaces.axes) == (6, 2)
    check_fleet(fleet)


@pytest.mark.parametrize(
    ("spaces", "sentence"),
    [
        (replace(SIZES, agent_pos=3), "must have the spaces of the checkpoint, .*; use the env t"),
        (
            replace(SIZES, cameras=CAMERA_SPACES.cameras),
            "must have the camera top 24x40 of the checkpoint, got none; rename or resize it",
        ),
    ],
)
def test_fitting_fleet_of_another_env_is_refused(spaces: Spaces, sentence: str) -> None:
    with pytest.raises(EnvError, match=f"^{ENV} .*{sentence}"):
        fitting_fleet(ENV, 1, mlp(spaces))


class Timed(PointMass):
    """A point mass that says how many control steps a second it takes."""

    control_hz = 10


@pytest.fixture
def timed_env() -> Iterator[str]:
    env = "nearer-test/Timed-v0"
    gymnasium.register(env, lambda **given: Timed(**given))
    yield env
    del gymnasium.registry[env]


def test_fitting_fleet_of_another_control_rate_is_refused(timed_env: str) -> None:
    assert fitting_fleet(timed_env, 1, mlp(replace(SIZES, control_hz=10))).spaces.control_hz == 10
    sentence = "7 Hz of the checkpoint, got 10 Hz.*; record demonstrations at 10 Hz, or set the env"
    with pytest.raises(EnvError, match=f"^{timed_env} must be controlled at the {sentence}"):
        fitting_fleet(timed_env, 1, mlp(replace(SIZES, control_hz=7)))


def test_fitting_fleet_of_a_reward_that_does_not_fit_names_the_reward() -> None:
    other = mlp(replace(SIZES, environment_state=1))
    with pytest.raises(EnvError, match="the spaces of the reward's checkpoint, agent_pos 4, env"):
        fitting_fleet(ENV, 1, mlp(), other)


def test_robots_with_room_of_a_model_without_images_are_all() -> None:
    assert robots_with_room(mlp(), max_steps=10_000, most=64) == 64


def test_robots_with_room_of_wide_features_keep_their_episodes_within_two_gigabytes() -> None:
    model = new_model("small-vla", SmallVLAConfig(hidden=4), CAMERA_SPACES, ["move it"], seed=0)
    encoder = model.vision_encoder
    assert encoder is not None
    bytes_a_frame = 4 * encoder.width
    steps = 2**31 // (3 * bytes_a_frame) - 1  # with the last observation, room for three
    assert robots_with_room(model, steps, most=100) == 3
    assert robots_with_room(model, steps, most=2) == 2
    assert robots_with_room(model, 100 * steps, most=100) == 1


def test_robots_with_room_of_a_time_limit_below_a_chunk_is_refused() -> None:
    model = mlp(SIZES.in_chunks(Chunking(chunk=5)))
    with pytest.raises(ConfigError, match="room for one chunk of the policy"):
        robots_with_room(model, max_steps=4, most=8)


def test_check_same_chunks_compares_control_steps_alone() -> None:
    check_same_chunks(Chunking(chunk=5), Chunking(chunk=5, relative=True))
    with pytest.raises(ConfigError, match=r"decide on 5 .* got 1; train it with .* --chunk 5"):
        check_same_chunks(Chunking(chunk=5), Chunking())


def test_check_same_chunks_compares_the_frames_learnt_from() -> None:
    decided, every = Chunking(chunk=5, decision_frames=True), Chunking(chunk=5)
    check_same_chunks(decided, decided)
    for policy, reward, sentence in (
        (decided, every, "must be trained with --decision-frames, .* got one without it"),
        (every, decided, "must be trained without --decision-frames, .* got one with it"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            check_same_chunks(policy, reward)
