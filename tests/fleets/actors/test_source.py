"""What the learner does with what actors say, against actors that say what the test wants."""

from collections import deque

import numpy as np
import pytest

from actor_groups import model
from nearer.algorithm.model import ModelPolicy
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation
from nearer.core.errors import NearerError
from nearer.core.spaces import Spaces
from nearer.fleets.actors.faults import Fault, FaultLog, FaultPlan
from nearer.fleets.actors.messages import (
    Beat,
    Died,
    EpisodeEnded,
    Failed,
    Message,
    Order,
    Paused,
    Ready,
    Weights,
)
from nearer.fleets.actors.source import ActorSource

SPACES = Spaces(agent_pos=2, environment_state=0, action=1)
READY = Ready(spaces=SPACES, num_robots=2)
PLAN = FaultPlan(start_s=0.2, step_s=0.2, reset_s=0.2, first_wait_s=0.01, most_in_a_row=1)


class ScriptedPool:
    """Actors that answer their orders as a script says; without one, rightly.

    Args:
        scripts: of each actor: what it says of its first orders, an order each.
    """

    def __init__(self, *scripts: list[list[Message]]) -> None:
        self.num_actors = len(scripts)
        self.orders: list[tuple[int, Order]] = []
        self.stopped: list[int] = []
        self._scripts = [deque(script) for script in scripts]
        self._said: list[deque[Message]] = [deque() for _ in scripts]

    def start(self, actor: int) -> None:
        self._said[actor].append(READY)

    def share(self, weights: Weights) -> object:
        return weights

    def send(self, actor: int, order: Order, shared_weights: object) -> None:
        self.orders.append((actor, order))
        script = self._scripts[actor].popleft() if self._scripts[actor] else rightly(actor, order)
        self._said[actor].extend(script)

    def receive(self, timeout_s: float) -> list[tuple[int, Message]]:
        return [(actor, said.popleft()) for actor, said in enumerate(self._said) if said]

    def stop(self, actor: int) -> None:
        self.stopped.append(actor)
        self._said[actor].clear()

    def close(self) -> None:
        self.stopped.extend(range(self.num_actors))


class Told(FaultLog):
    """Keeps faults for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Fault] = []

    def report(self, fault: Fault) -> None:
        self.faults.append(fault)


def ended(seed: int, steps: int, version: int = 0) -> EpisodeEnded:
    observation = Observation(
        agent_pos=np.zeros((steps + 1, 2), np.float32),
        environment_state=np.zeros((steps + 1, 0), np.float32),
    )
    episode = Episode(
        robot=0,
        seed=seed,
        instruction="count",
        policy_version=version,
        observations=EncodedObservation.without_features(observation),
        actions=np.zeros((steps, 1), np.float32),
        log_prob=np.zeros(steps, np.float32),
        ended=Ended.TIME_LIMIT,
    )
    return EpisodeEnded(episode=episode, success=np.zeros(steps + 1, bool))


def rightly(actor: int, order: Order) -> list[Message]:
    seed = 1000 * order.iteration + 100 * actor + 10 * order.part
    return [ended(seed, order.enough_steps, order.version), Paused()]


def collect(source: ActorSource, version: int = 0, enough: int = 8) -> list[Episode]:
    return list(source.episodes(ModelPolicy(model()), version, enough))


def test_decisions_are_shared_and_episodes_come_in_the_order_of_actors() -> None:
    pool = ScriptedPool([], [])
    source = ActorSource(pool, PLAN)
    acted = collect(source)
    assert source.num_robots == 4
    assert [(actor, order.enough_steps) for actor, order in pool.orders] == [(0, 4), (1, 4)]
    assert [(episode.seed, episode.robot) for episode in acted] == [(0, 0), (100, 2)]


def test_an_episode_that_comes_twice_counts_once() -> None:
    source = ActorSource(ScriptedPool([[ended(5, 8), ended(5, 8), ended(6, 8), Paused()]]), PLAN)
    assert [episode.seed for episode in collect(source)] == [5, 6]


def test_what_a_faulty_actor_had_left_goes_to_the_others() -> None:
    failed = Failed(sentence="motor must turn, got smoke", is_robot=True)
    beat = Beat(resetting=False, in_flight=1)
    pool = ScriptedPool([[ended(7, 3), beat, failed]], [])
    told = Told()
    acted = collect(ActorSource(pool, PLAN, told), enough=20)
    assert sum(episode.num_steps for episode in acted) == 20
    assert [episode.seed for episode in acted] == [7, 100, 110]
    (fault,) = told.faults
    assert (fault.kind, fault.actor, fault.robots, fault.dropped_episodes) == (
        *("raised", 0, (0, 1)),
        1,
    )
    assert pool.orders[-1] == (1, Order(iteration=0, part=1, version=0, enough_steps=7))


def test_what_is_left_is_done_in_parts_of_an_episode_a_robot_at_least() -> None:
    failed = Failed(sentence="motor must turn, got smoke", is_robot=True)
    pool = ScriptedPool([[failed]], [[ended(1, 5), ended(2, 5), Paused()]], [], [])
    acted = collect(ActorSource(pool, PLAN), enough=40)
    parts = [(actor, order.enough_steps) for actor, order in pool.orders[4:]]
    assert [decisions for _, decisions in parts] == [10], "a fourth each would be as many episodes"
    assert sum(episode.num_steps for episode in acted) == 40


def test_the_only_actor_takes_what_it_had_left_once_it_is_ready_again() -> None:
    pool = ScriptedPool([[ended(7, 3), Died(sentence="it is gone")]])
    told = Told()
    source = ActorSource(pool, PLAN, told)
    assert [episode.seed for episode in collect(source)] == [7, 10]
    assert pool.orders[-1][1].enough_steps == 5
    assert [fault.again_in_s for fault in told.faults] == [0.01]


def test_an_actor_without_a_sign_of_life_is_ended_and_its_order_taken_over() -> None:
    pool, told = ScriptedPool([[]], []), Told()
    source = ActorSource(pool, PLAN, told)
    assert sum(episode.num_steps for episode in collect(source)) == 8
    assert [(fault.kind, fault.sentence) for fault in told.faults] == [
        ("hung", "a step took more than 0.2 s")
    ]
    assert pool.stopped == [0]


def test_actors_that_all_fail_again_and_again_end_practice() -> None:
    died = Died(sentence="it is gone")
    source = ActorSource(ScriptedPool([[died], [died]]), PLAN)
    with pytest.raises(NearerError, match=r"got 2 faults in a row of every one, the last: it is"):
        collect(source)


def test_an_actor_that_is_never_ready_is_a_sentence() -> None:
    class Silent(ScriptedPool):
        def start(self, actor: int) -> None:
            pass

    pool = Silent([])
    with pytest.raises(NearerError, match=r"must be ready within 0.2 s, got word of 0"):
        ActorSource(pool, PLAN)
    assert pool.stopped == [0]


def test_with_staleness_the_next_iteration_is_ordered_by_the_same_weights() -> None:
    pool = ScriptedPool([])
    source = ActorSource(pool, PLAN, max_staleness=1)
    versions = [
        [episode.policy_version for episode in collect(source, version)] for version in range(3)
    ]
    assert versions == [[0], [0], [1]]
    assert [(order.iteration, order.version) for _, order in pool.orders] == [
        *((0, 0), (1, 0), (2, 1)),
        (3, 2),
    ]
