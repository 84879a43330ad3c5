"""Robots on a Ray cluster of this machine: the same episodes, and the same care for faults."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actor_groups import group, model, models, same_bits, served_group
from nearer.algorithm.model import ModelPolicy
from nearer.core.episode import Episode
from nearer.core.errors import ConfigError, NearerError
from nearer.fleets.actors import ray_cluster
from nearer.fleets.actors.faults import FAULTS, FaultLog, FaultPlan
from nearer.fleets.actors.messages import Answer, Question, Weights
from nearer.fleets.actors.processes import ProcessPool
from nearer.fleets.actors.ray_cluster import RESOURCE, RayPool
from nearer.fleets.actors.source import ActorSource

ray: Any = pytest.importorskip("ray")
ENOUGH = 60
PLAN = FaultPlan(step_s=5.0, first_wait_s=0.05, most_in_a_row=2)


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    known = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(
            "local",
            num_cpus=1,
            num_gpus=1,  # by name alone: Ray believes it
            resources={RESOURCE: 2},
            include_dashboard=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, known))}},
        )
    yield
    ray.shutdown()


def episodes(source: ActorSource, version: int) -> list[Episode]:
    return list(source.episodes(ModelPolicy(model()), version, ENOUGH))


def test_episodes_are_those_of_processes_bit_for_bit() -> None:
    made = [partial(group, 1), partial(group, 1)]
    on_ray, in_processes = ActorSource(RayPool(made, 3)), ActorSource(ProcessPool(made, 3))
    try:
        for version in range(2):
            ours, theirs = episodes(on_ray, version), episodes(in_processes, version)
            assert all(same_bits(*pair) for pair in zip(ours, theirs, strict=True))
            success = [source.success(ours[0]).tolist() for source in (on_ray, in_processes)]
            assert success[0] == success[1]
            assert ours[0].actions.flags.writeable
            assert ours[0].observations.agent_pos.flags.writeable
    finally:
        on_ray.close()
        in_processes.close()


def test_a_served_policy_decides_as_copies_of_it_do() -> None:
    made = [partial(served_group, 1, 0), partial(served_group, 1, 1)]
    served = ActorSource(RayPool(made, 3, make_models=partial(models, 2)))
    copies = ActorSource(ProcessPool([partial(group, 1), partial(group, 1)], 3))
    try:
        assert not ray.available_resources().get("GPU"), "the server takes the GPU that is free"
        for ours, theirs in zip(episodes(served, 0), episodes(copies, 0), strict=True):
            assert (ours.seed, ours.num_steps) == (theirs.seed, theirs.num_steps)
            np.testing.assert_allclose(ours.actions, theirs.actions, atol=1e-5)
    finally:
        served.close()
        copies.close()


def test_a_faulty_robot_is_told_of_and_started_again(tmp_path: Path) -> None:
    counted, run = tmp_path / "counted", tmp_path / "run"
    counted.mkdir()
    run.mkdir()
    pool = RayPool([partial(group, 1), partial(group, 1, "raises", counted)], 0)
    source = ActorSource(pool, PLAN, FaultLog(run / FAULTS))
    try:
        acted = episodes(source, 0)
        assert sum(episode.num_steps for episode in acted) >= ENOUGH
        (fault,) = [json.loads(line) for line in (run / FAULTS).read_text().splitlines()]
        assert (fault["kind"], fault["robots"], fault["dropped_episodes"]) == ("raised", [1], 1)
        assert "motor must turn, got smoke" in fault["sentence"]
        for version in range(1, 500):
            if {episode.robot for episode in episodes(source, version)} == {0, 1}:
                return
        raise AssertionError("the robot must act again")
    finally:
        source.close()


def test_the_only_robot_takes_up_again_what_it_had_left(tmp_path: Path) -> None:
    source = ActorSource(RayPool([partial(group, 1, "raises", tmp_path)], 0), PLAN)
    try:
        assert sum(episode.num_steps for episode in episodes(source, 0)) >= ENOUGH
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        source.close()


def test_an_actor_that_is_killed_is_replaced(tmp_path: Path) -> None:
    pool = RayPool([partial(group, 1), partial(group, 1)], 0)
    source = ActorSource(pool, PLAN, FaultLog(tmp_path / FAULTS))
    try:
        episodes(source, 0)
        ray.kill(pool.handle(1))
        acted = episodes(source, 1)
        assert sum(episode.num_steps for episode in acted) >= ENOUGH
        assert {episode.policy_version for episode in acted} == {1}
        (fault,) = [json.loads(line) for line in (tmp_path / FAULTS).read_text().splitlines()]
        assert (fault["kind"], fault["robots"]) == ("died", [1])
    finally:
        source.close()


class HangsOnce:
    """Models whose first server never finishes loading."""

    def __init__(self, hung: Path) -> None:
        self._hung = hung

    def load(self, weights: Weights) -> None:
        if not self._hung.exists():
            self._hung.touch()
            time.sleep(1000)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        raise AssertionError("nobody asks")


def test_a_server_of_the_models_that_hangs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "_LOAD_S", 5.0)
    served = ray_cluster._RayModels(ray, partial(HangsOnce, tmp_path / "hung"))
    try:
        served.load({})
        assert (tmp_path / "hung").exists()
        assert ray.get(served.alive().load.remote({}), timeout=10) is None
    finally:
        served.close()


def test_a_cluster_with_too_few_robots_is_a_sentence() -> None:
    with pytest.raises(NearerError, match=r"must have 3 robots, got 2 of the resource 'robot'"):
        RayPool([partial(group, 1)] * 3, 0)


def test_ray_that_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(ray_cluster, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'nearer\[ray\]', or choose --fleet proc"):
        RayPool([partial(group, 1)], 0)
