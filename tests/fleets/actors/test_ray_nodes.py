"""A node of the Ray cluster that is killed, and one that joins."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actor_groups import group, model
from nearer.algorithm.model import ModelPolicy
from nearer.core.episode import Episode
from nearer.fleets.actors.faults import FAULTS, FaultLog, FaultPlan
from nearer.fleets.actors.ray_cluster import RESOURCE, RayPool
from nearer.fleets.actors.source import ActorSource

ray: Any = pytest.importorskip("ray")
cluster_utils: Any = pytest.importorskip("ray.cluster_utils")
ENOUGH = 200
PLAN = FaultPlan(step_s=20.0, first_wait_s=0.05)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head where this process learns, and two nodes with a robot each."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    made.robots = [made.add_node(num_cpus=1, resources={RESOURCE: 1}) for _ in range(2)]
    known = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    ray.init(
        made.address,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, known))}},
    )
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_that_is_killed_costs_its_episodes_in_flight_and_another_takes_its_place(
    cluster: Any, tmp_path: Path
) -> None:
    def episodes(version: int) -> list[Episode]:
        return list(source.episodes(ModelPolicy(model()), version, ENOUGH))

    pool = RayPool([partial(group, 1, "slow"), partial(group, 1, "slow")], 0)
    source = ActorSource(pool, PLAN, FaultLog(tmp_path / FAULTS))
    try:
        begun = source.episodes(ModelPolicy(model()), 0, ENOUGH)
        acted = [next(begun)]
        cluster.remove_node(cluster.robots[1], allow_graceful=False)
        acted += begun
        assert sum(episode.num_steps for episode in acted) >= ENOUGH
        assert {episode.policy_version for episode in acted} == {0}
        faults = [json.loads(line) for line in (tmp_path / FAULTS).read_text().splitlines()]
        assert {fault["kind"] for fault in faults} == {"died"}
        assert len({fault["actor"] for fault in faults}) == 1
        # None if it dies between two episodes. Until Ray knows that the node is gone, it may place
        # the next actor there, and that one has begun none.
        first, *later_ones = [fault["dropped_episodes"] for fault in faults]
        assert first in (0, 1)
        assert not any(later_ones)
        cluster.add_node(num_cpus=1, resources={RESOURCE: 1})
        for version in range(1, 100):
            acted += (later := episodes(version))
            if {episode.robot for episode in later} == {0, 1}:
                break
        else:
            raise AssertionError("the new node's robot must act")
        seeds = [episode.seed for episode in acted]
        assert len(set(seeds)) == len(seeds)
    finally:
        source.close()
