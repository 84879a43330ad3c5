"""Images are encoded once, when they arrive; every robot has a memory of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.interfaces import Sensed, Starts
from nearer.core.spaces import Camera
from nearer.fleets.encoded import (
    EncodedFleet,
    Encoders,
    StatefulEncoder,
    encode_episode,
    encoded,
    feature_widths,
    separate_reward_encoder,
)
from nearer.testing import CountingFleet


class Brightness:
    """Encodes a frame as its first pixel and its instruction's length; features sum the frames."""

    encoding_width = width = 2

    def __init__(self, identity: str = "brightness") -> None:
        self.identity = identity
        self.frames_at_once: list[int] = []

    def encode(self, images: Mapping[str, Array], instructions: Sequence[str]) -> Array:
        self.frames_at_once.append(len(instructions))
        lengths = [len(instruction) for instruction in instructions]
        return np.stack([images["top"][:, 0, 0, 0], lengths], axis=1).astype(np.float32)

    def track(self, before: Array | None, encodings: Array) -> Array:
        return encodings if before is None else before + encodings


class Filmed(CountingFleet):
    """Counts, with an image that shows the steps since reset."""

    def __init__(self, num_robots: int) -> None:
        super().__init__(num_robots, goal_steps=9)
        self.spaces = replace(self.spaces, cameras=(Camera("top", 1, 1),))

    def reset(self, robots: Array, seeds: Sequence[int]) -> Starts:
        starts = super().reset(robots, seeds)
        instructions = ["go" * (1 + robot) for robot in robots]
        return Starts(observation=_filmed(starts.observation), instructions=instructions)

    def step(self, robots: Array, actions: Array) -> Sensed:
        sensed = super().step(robots, actions)
        return replace(sensed, observation=_filmed(sensed.observation))


def _filmed(observation: Observation | EncodedObservation) -> Observation:
    assert isinstance(observation, Observation)
    pixels = 10 + observation.agent_pos[:, 1:, None, None].astype(np.uint8)
    return replace(observation, images={"top": np.repeat(pixels, 3, axis=-1)})


def one_step(fleet: EncodedFleet, *robots: int) -> Array:
    sensed = fleet.step(np.array(robots), np.zeros((len(robots), 1), np.float32))
    assert isinstance(sensed.observation, EncodedObservation)
    return sensed.observation.features


def test_encoded_fleet_tracks_each_robot_from_its_own_start() -> None:
    fleet = EncodedFleet(Filmed(2), Encoders(Brightness(), None, 2))
    starts = fleet.reset(np.arange(2), [1, 2])
    assert isinstance(starts.observation, EncodedObservation)
    assert starts.observation.features.tolist() == [[10, 2], [10, 4]]
    assert starts.observation.observation.images == {}
    assert one_step(fleet, 1).tolist() == [[21, 8]]
    assert one_step(fleet, 0, 1).tolist() == [[21, 4], [33, 12]]
    fleet.reset(np.array([1]), [5])
    assert one_step(fleet, 0, 1).tolist() == [[33, 6], [21, 8]]


def test_encoded_fleet_keeps_features_of_both_models_apart() -> None:
    fleet = EncodedFleet(Filmed(1), Encoders(None, Brightness(), 1))
    observation = fleet.reset(np.arange(1), [1]).observation
    assert isinstance(observation, EncodedObservation)
    assert observation.features.shape == (1, 0)
    assert observation.reward_features.tolist() == [[10, 2]]


def test_encoded_without_an_encoder_is_the_fleet_itself() -> None:
    fleet = CountingFleet(1, goal_steps=2)
    assert encoded(fleet, None) is fleet
    assert isinstance(encoded(fleet, Brightness()), EncodedFleet)
    assert isinstance(encoded(fleet, None, Brightness()), EncodedFleet)


def test_encoded_with_two_equal_encoders_encodes_once() -> None:
    encoder = Brightness()
    fleet = encoded(Filmed(1), encoder, Brightness())
    observation = fleet.reset(np.arange(1), [1]).observation
    assert isinstance(observation, EncodedObservation)
    assert observation.reward_features.shape == (1, 0)
    assert encoder.frames_at_once == [1]


def test_separate_reward_encoder_is_none_where_it_equals_the_policys() -> None:
    policy, equal, other = Brightness(), Brightness(), Brightness("other")
    assert separate_reward_encoder(policy, equal) is None
    assert separate_reward_encoder(policy, other) is other
    assert separate_reward_encoder(None, other) is other
    assert separate_reward_encoder(policy, None) is None


def test_feature_widths_count_a_shared_encoder_once() -> None:
    policy, other = Brightness(), Brightness("other")
    assert feature_widths(None, None) == (0, 0)
    assert feature_widths(policy, Brightness()) == (2, 0)
    assert feature_widths(policy, other) == (2, 2)
    assert feature_widths(None, other) == (0, 2)


def observations(num_frames: int) -> Observation:
    numbers = np.arange(num_frames, dtype=np.float32)[:, None]
    pixels = np.broadcast_to(numbers.astype(np.uint8)[..., None, None], (num_frames, 1, 1, 3))
    return Observation(agent_pos=numbers, environment_state=-numbers, images={"top": pixels})


@pytest.mark.parametrize("num_frames", [1, 128, 129, 200])
def test_encode_episode_in_parts_equals_frame_by_frame(num_frames: int) -> None:
    episode, encoder = observations(num_frames), Brightness()
    stateful = StatefulEncoder(Brightness(), 1)
    robot = np.zeros(1, np.int64)
    expected = [
        stateful.encode(robot, episode.rows(slice(row, row + 1)), ["move"], at_start=not row)[0]
        for row in range(num_frames)
    ]
    answer = encode_episode(encoder, episode, "move")
    assert answer.features.tolist() == np.stack(expected).tolist()
    assert answer.observation.images == {}
    assert answer.state.tolist() == episode.state.tolist()
    assert max(encoder.frames_at_once) <= 128, "a long episode must not fill the memory"


def test_encode_episode_without_an_encoder_has_no_features() -> None:
    answer = encode_episode(None, observations(3), "move")
    assert answer.features.shape == (3, 0)
    assert answer.observation.images == {}
