"""A fleet that executes action chunks."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from arm_env import ARM, Arm, ReachingPolicy, ScriptedPolicy, registered_arm
from nearer.algorithm.demonstrations import Demonstrations, chunked
from nearer.algorithm.rollout import rollout
from nearer.core.action_chunks import PLAIN, Chunking
from nearer.core.arrays import Array
from nearer.core.episode import Ended
from nearer.evaluation.ground_truth import NoTermination
from nearer.fleets.chunked import ChunkedFleet, encoded_in_chunks, in_chunks
from nearer.fleets.decide_ahead import AheadFleet
from nearer.fleets.encoded import encoded, encoders_of
from nearer.fleets.gym import SingleEnvFleet, make_fleet
from nearer.testing import CountingFleet, check_fleet

POINT_MASS = "nearer/PointMass-v0"


@pytest.fixture(scope="module", autouse=True)
def arm() -> Iterator[None]:
    with registered_arm():
        yield


def test_chunked_fleet_of_one_control_step_changes_nothing() -> None:
    plain = make_fleet(ARM, 3)
    assert in_chunks(plain, PLAIN) is plain
    wrapped = ChunkedFleet(make_fleet(ARM, 3), PLAIN)
    assert wrapped.spaces == plain.spaces
    episodes = [
        [
            (episode.observations.state.tobytes(), episode.actions.tobytes(), episode.ended)
            for episode in rollout(
                fleet, ReachingPolicy(), NoTermination(), seeds=iter(range(9)), max_steps=20
            )
        ]
        for fleet in (plain, wrapped)
    ]
    assert episodes[0] == episodes[1]


@pytest.mark.parametrize("env", [POINT_MASS, ARM])
def test_chunked_fleet_keeps_the_contract_of_a_fleet(env: str) -> None:
    check_fleet(ChunkedFleet(make_fleet(env, 3), Chunking(chunk=3)))


def test_chunked_fleet_executes_the_actions_of_a_chunk_in_order() -> None:
    robots, rng = np.arange(4), np.random.default_rng(0)
    decisions = rng.normal(0, 1e-3, (3, 4, 10)).astype(np.float32)
    plain, whole = (
        make_fleet(POINT_MASS, 4),
        ChunkedFleet(make_fleet(POINT_MASS, 4), Chunking(chunk=5)),
    )
    for fleet in (plain, whole):
        fleet.reset(robots, [1, 2, 3, 4])
    for decision in decisions:
        after = whole.step(robots, decision).observation.state
        stepped = [plain.step(robots, decision[:, i : i + 2]) for i in range(0, 10, 2)]
        assert np.array_equal(after, stepped[-1].observation.state)


def test_chunked_fleet_relative_demonstrations_are_repeated() -> None:
    """A relative decision means the same in demonstrations and on robots."""
    chunking = Chunking(chunk=3, relative=True)
    arms, reaching = make_fleet(ARM, 2), ReachingPolicy()
    demonstrated = rollout(arms, reaching, NoTermination(), seeds=iter([5, 8]), max_steps=30)
    fleet = ChunkedFleet(make_fleet(ARM, 1), chunking)
    for episode in list(demonstrated):
        assert episode.ended is Ended.ENVIRONMENT
        data = Demonstrations(
            state=torch.from_numpy(episode.observations.state),
            features=torch.zeros(episode.num_steps + 1, 0),
            actions=torch.from_numpy(np.concatenate([episode.actions, episode.actions[-1:]])),
            steps_to_go=torch.arange(episode.num_steps + 1).flip(0),
            episode_lengths=np.array([episode.num_steps + 1]),
            instructions=("reach",),
            spaces=make_fleet(ARM, 1).spaces,
        )
        decisions = chunked(data, chunking).actions.numpy()[::3]
        policy, seeds = ScriptedPolicy([decisions]), iter([episode.seed])
        (repeated,) = rollout(fleet, policy, NoTermination(), seeds=seeds, max_steps=30)
        assert repeated.ended is Ended.ENVIRONMENT
        assert repeated.num_steps == -(-episode.num_steps // 3)
        positions = episode.observations.agent_pos[::3]
        np.testing.assert_allclose(
            repeated.observations.agent_pos[: len(positions)], positions, atol=1e-6
        )
        last = episode.observations.agent_pos[-1]
        np.testing.assert_allclose(repeated.observations.agent_pos[-1], last, atol=1e-6)


def test_chunked_fleet_env_ends_within_a_chunk_stops_its_robot_alone() -> None:
    envs = [Arm(), Arm()]
    fleet = ChunkedFleet(SingleEnvFleet(envs), Chunking(chunk=4))
    robots = np.arange(2)
    starts = fleet.reset(robots, [3, 4]).observation
    goal, joints = starts.environment_state, starts.agent_pos
    near = goal - np.float32([[0.14, 0], [9, 9]])  # one step from the goal; never at it
    envs[0].joints = near[0]
    sensed = fleet.step(robots, np.tile(np.stack([goal[0], joints[1]]), (1, 4)))
    assert sensed.env_ended.tolist() == [True, False]
    assert [env.num_steps for env in envs] == [1, 4]
    assert fleet.ground_truth(robots).tolist() == [True, False]
    np.testing.assert_allclose(sensed.observation.agent_pos[0], near[0] + [0.1, 0], atol=1e-6)
    np.testing.assert_array_equal(sensed.observation.agent_pos[1], joints[1])


class FrameCountingEncoder:
    """A vision encoder that counts the frames of an episode."""

    identity, encoding_width, width = "frame-counting", 1, 1

    def encode(self, images: Any, instructions: Sequence[str]) -> Array:
        return np.ones((len(instructions), 1), np.float32)

    def track(self, before: Array | None, encodings: Array) -> Array:
        return encodings if before is None else before + encodings


def test_chunked_fleet_vision_encoder_tracks_every_control_step() -> None:
    fleet = in_chunks(encoded(CountingFleet(2, 9), FrameCountingEncoder()), Chunking(chunk=3))
    robots = np.arange(2)
    assert fleet.reset(robots, [1, 2]).observation.features.tolist() == [[1], [1]]
    for _ in range(2):
        sensed = fleet.step(robots, np.zeros((2, 3), np.float32))
    assert sensed.observation.features.tolist() == [[7], [7]]


def test_encoded_in_chunks_encodes_decisions_alone_of_a_model_that_learnt_so() -> None:
    robots = np.arange(2)
    for decision_frames, seen in ((False, [[7], [7]]), (True, [[3], [3]])):
        encoders = encoders_of(FrameCountingEncoder(), None, 2)
        chunking = Chunking(chunk=3, decision_frames=decision_frames)
        fleet = encoded_in_chunks(CountingFleet(2, 9), chunking, encoders)
        assert fleet.reset(robots, [1, 2]).observation.features.tolist() == [[1], [1]]
        for _ in range(2):
            sensed = fleet.step(robots, np.zeros((2, 3), np.float32))
        assert sensed.observation.features.tolist() == seen
        assert sensed.observation.agent_pos[:, 1].tolist() == [6, 6]
    chunking = Chunking(chunk=3, decision_frames=True)
    encoders = encoders_of(FrameCountingEncoder(), None, 1)
    ahead = encoded_in_chunks(
        CountingFleet(1, 9), chunking, encoders, partial(AheadFleet, ahead=1, recording=False)
    )
    ahead.reset(robots[:1], [1])
    for seen in (2, 3):
        sensed = ahead.step(robots[:1], np.zeros((1, 3), np.float32))
        assert sensed.observation.features.tolist() == [[seen]]
    ahead.close()
    unseeing = CountingFleet(2, 9)
    assert encoded_in_chunks(unseeing, PLAIN, None) is unseeing
