"""No transition is lost, doubled or shuffled on the way from fleet to batch."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from arm_env import ScriptedPolicy
from nearer.algorithm.rollout import actions_outside, rollout
from nearer.core.action_chunks import Chunking
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation
from nearer.core.errors import ConfigError, NearerError
from nearer.core.interfaces import Decision
from nearer.core.spaces import Spaces
from nearer.evaluation.ground_truth import NoTermination
from nearer.fleets.chunked import ChunkedFleet
from nearer.testing import CountingFleet, CountTermination, EchoPolicy

GOAL, LIMIT = 7, 11


def collect_counting_episodes(num_robots: int, num_seeds: int, enough: int | None = None):
    fleet = CountingFleet(num_robots, GOAL)
    seeds = iter(range(1, num_seeds + 1)) if num_seeds else count(1)
    episodes = list(
        rollout(
            fleet,
            EchoPolicy(),
            CountTermination(GOAL),
            seeds=seeds,
            max_steps=LIMIT,
            enough_steps=enough,
            policy_version=5,
        )
    )
    return fleet, episodes


@pytest.mark.parametrize("num_robots", [1, 3, 8, 40])
def test_rollout_records_every_transition_once_and_in_order(num_robots: int) -> None:
    fleet, episodes = collect_counting_episodes(num_robots, num_seeds=23)
    assert sorted(episode.seed for episode in episodes) == list(range(1, 24))
    recorded = []
    for episode in episodes:
        steps = np.arange(episode.num_steps)
        assert episode.observations.agent_pos[:, 0].tolist() == [episode.seed] * (len(steps) + 1)
        assert episode.observations.agent_pos[:, 1].tolist() == list(range(len(steps) + 1))
        assert np.allclose(episode.actions[:, 0], episode.seed + steps / 1000)
        assert episode.log_prob.tolist() == steps.tolist()
        assert (episode.policy_version, episode.instruction) == (5, "count")
        recorded += [
            (episode.seed, int(step), float(action))
            for step, action in zip(steps, episode.actions[:, 0], strict=True)
        ]
    assert sorted(recorded) == sorted(fleet.actions)


def test_rollout_ends_episodes_at_detected_success_or_the_time_limit() -> None:
    _, episodes = collect_counting_episodes(num_robots=4, num_seeds=12)
    for episode in episodes:
        if episode.seed % 3:
            assert (episode.ended, episode.num_steps) == (Ended.SUCCESS_DETECTED, GOAL)
        else:
            assert (episode.ended, episode.num_steps) == (Ended.TIME_LIMIT, LIMIT)


@pytest.mark.parametrize("num_robots", [1, 4, 16])
def test_rollout_with_enough_steps_drops_no_episode(num_robots: int) -> None:
    fleet, episodes = collect_counting_episodes(num_robots, num_seeds=0, enough=100)
    steps = sum(episode.num_steps for episode in episodes)
    assert 100 <= steps <= 100 + num_robots * LIMIT
    assert steps == len(fleet.actions)
    assert sorted(episode.seed for episode in episodes) == list(range(1, len(episodes) + 1))


def test_rollout_episode_detected_as_done_at_its_start_has_no_step() -> None:
    fleet = CountingFleet(2, GOAL)
    seeds = iter([1, 2])
    termination = CountTermination(goal_steps=0)
    episodes = list(rollout(fleet, EchoPolicy(), termination, seeds=seeds, max_steps=LIMIT))
    assert [episode.num_steps for episode in episodes] == [0, 0]
    assert fleet.actions == []


class FeatureFleet(CountingFleet):
    """Gives features that are twice agent_pos."""

    def reset(self, robots, seeds):
        starts = super().reset(robots, seeds)
        return replace(starts, observation=with_features(starts.observation))

    def step(self, robots, actions):
        sensed = super().step(robots, actions)
        return replace(sensed, observation=with_features(sensed.observation))


def with_features(observation):
    encoded = EncodedObservation.without_features(observation)
    return replace(encoded, features=2 * observation.agent_pos)


class FeatureCheckingPolicy(EchoPolicy):
    """Checks that it gets the features of `FeatureFleet`."""

    def act(self, observation, instructions, robots, rngs):
        assert np.array_equal(observation.features, 2 * observation.agent_pos)
        return super().act(observation, instructions, robots, rngs)


@pytest.mark.parametrize("keep_features", [True, False])
def test_rollout_features_reach_the_policy_and_are_kept_on_request(keep_features: bool) -> None:
    episodes = rollout(
        FeatureFleet(3, GOAL),
        FeatureCheckingPolicy(),
        CountTermination(GOAL),
        seeds=iter(range(1, 9)),
        max_steps=LIMIT,
        keep_features=keep_features,
    )
    for episode in episodes:
        observations = episode.observations
        assert observations.features.shape == (episode.num_steps + 1, 2 * keep_features)
        assert np.array_equal(
            observations.features, 2 * observations.agent_pos[:, : 2 * keep_features]
        )
        assert observations.agent_pos[:, 1].tolist() == list(range(episode.num_steps + 1))


def test_rollout_in_chunks_time_limit_counts_control_steps() -> None:
    fleet = CountingFleet(2, 99)
    decisions = [np.arange(12, dtype=np.float32).reshape(4, 3) + 100 * robot for robot in range(2)]
    chunks, policy = ChunkedFleet(fleet, Chunking(chunk=3)), ScriptedPolicy(decisions)
    episodes = list(rollout(chunks, policy, NoTermination(), seeds=iter([1, 2]), max_steps=11))
    for robot, episode in enumerate(episodes):
        assert (episode.num_steps, episode.ended) == (3, Ended.TIME_LIMIT)
        assert episode.observations.agent_pos[:, 1].tolist() == [0, 3, 6, 9]
        executed = [
            (count, action) for seed, count, action in fleet.actions if seed == episode.seed
        ]
        assert executed == [(step, 100 * robot + step) for step in range(9)]
    with pytest.raises(ConfigError, match=r"one chunk .* 3 control steps, got 2; raise --max-step"):
        list(rollout(chunks, policy, NoTermination(), seeds=iter([1]), max_steps=2))


def test_actions_outside_of_a_chunk_counts_each_control_step() -> None:
    limits = ((-1.0, -1.0), (1.0, 1.0))
    joints = Spaces(agent_pos=2, environment_state=2, action=2, action_limits=limits)
    spaces = joints.in_chunks(Chunking(chunk=2, relative=True))
    decisions = np.float32([[0.1, 0, 0.5, 0], [0, 0, 0, 0]])
    episode = Episode(
        robot=0,
        seed=1,
        instruction="reach",
        policy_version=0,
        observations=EncodedObservation.without_features(
            Observation(
                agent_pos=np.float32([[0.7, 0], [0.8, 0], [0.9, 0]]),
                environment_state=np.zeros((3, 2), np.float32),
            )
        ),
        actions=decisions,
        log_prob=np.zeros(2, np.float32),
        ended=Ended.TIME_LIMIT,
    )
    assert actions_outside(spaces, [episode]) == 1  # 0.7 + 0.5 is above 1


class DividingPolicy(EchoPolicy):
    """Divides by zero once a robot has counted to 2."""

    def act(self, observation, instructions, robots, rngs) -> Decision:
        decision = super().act(observation, instructions, robots, rngs)
        too_far = observation.agent_pos[:, 1] == 2
        return replace(decision, actions=np.where(too_far[:, None], np.nan, decision.actions))


def test_rollout_action_that_is_not_finite_moves_no_robot() -> None:
    fleet = CountingFleet(3, GOAL)
    sentence = r"every action must be finite, got \[nan\] for 'count' from policy version 4;"
    with pytest.raises(NearerError, match=sentence):
        list(
            rollout(
                fleet,
                DividingPolicy(),
                CountTermination(GOAL),
                seeds=iter(range(3)),
                max_steps=LIMIT,
                policy_version=4,
            )
        )
    assert len(fleet.actions) == 6
    assert all(np.isfinite(action) for _, _, action in fleet.actions)
