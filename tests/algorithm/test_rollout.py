"""No transition is lost, doubled or shuffled on the way from fleet to batch."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from nearer.algorithm.rollout import collect
from nearer.core.episode import EncodedObservation, Ended
from nearer.testing import CountingFleet, CountTermination, EchoPolicy

GOAL, LIMIT = 7, 11


def run(num_robots: int, num_seeds: int, enough: int | None = None):
    fleet = CountingFleet(num_robots, GOAL)
    seeds = iter(range(1, num_seeds + 1)) if num_seeds else count(1)
    episodes = list(
        collect(
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
def test_every_transition_once_and_in_order(num_robots: int) -> None:
    fleet, episodes = run(num_robots, num_seeds=23)
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
            (episode.seed, int(s), float(a))
            for s, a in zip(steps, episode.actions[:, 0], strict=True)
        ]
    assert sorted(recorded) == sorted(fleet.actions)


def test_how_episodes_end() -> None:
    _, episodes = run(num_robots=4, num_seeds=12)
    for episode in episodes:
        if episode.seed % 3:
            assert (episode.ended, episode.num_steps) == (Ended.SUCCESS_DETECTED, GOAL)
        else:
            assert (episode.ended, episode.num_steps) == (Ended.TIME_LIMIT, LIMIT)


@pytest.mark.parametrize("num_robots", [1, 4, 16])
def test_enough_steps_drops_no_episode(num_robots: int) -> None:
    fleet, episodes = run(num_robots, num_seeds=0, enough=100)
    steps = sum(episode.num_steps for episode in episodes)
    assert 100 <= steps <= 100 + num_robots * LIMIT
    assert steps == len(fleet.actions)
    assert sorted(e.seed for e in episodes) == list(range(1, len(episodes) + 1))


def test_an_episode_that_looks_done_at_once_has_no_step() -> None:
    fleet = CountingFleet(2, GOAL)
    seeds = iter([1, 2])
    termination = CountTermination(goal_steps=0)
    episodes = list(collect(fleet, EchoPolicy(), termination, seeds=seeds, max_steps=LIMIT))
    assert [episode.num_steps for episode in episodes] == [0, 0]
    assert fleet.actions == []


class Seeing(CountingFleet):
    def _observe(self, robots):
        seen = super()._observe(robots)
        seen = EncodedObservation.without_features(seen)
        return replace(seen, features=2 * seen.agent_pos)


class Watching(EchoPolicy):
    def act(self, observation, instructions, robots, rngs):
        assert np.array_equal(observation.features, 2 * observation.agent_pos)
        return super().act(observation, instructions, robots, rngs)


@pytest.mark.parametrize("kept", [True, False])
def test_features_are_acted_on_and_remembered_where_they_are_wanted(kept: bool) -> None:
    episodes = collect(
        Seeing(3, GOAL),
        Watching(),
        CountTermination(GOAL),
        seeds=iter(range(1, 9)),
        max_steps=LIMIT,
        keep_features=kept,
    )
    for episode in episodes:
        seen = episode.observations
        assert seen.features.shape == (episode.num_steps + 1, 2 * kept)
        assert np.array_equal(seen.features, 2 * seen.agent_pos[:, : 2 * kept])
        assert seen.agent_pos[:, 1].tolist() == list(range(episode.num_steps + 1))
