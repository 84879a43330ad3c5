"""Robots in processes of their own: episodes of one version, the same whatever the pace."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actor_groups import MAX_STEPS, group, model, models, same_bits, served_group
from nearer.algorithm.model import FoundationModel, ModelPolicy, inputs_of
from nearer.core.episode import Episode
from nearer.core.errors import NearerError
from nearer.fleets.actors import model_process
from nearer.fleets.actors.actor import load_weights, trained_weights
from nearer.fleets.actors.faults import FAULTS, FaultLog, FaultPlan
from nearer.fleets.actors.messages import Order
from nearer.fleets.actors.model_process import ModelProcess
from nearer.fleets.actors.processes import ProcessPool
from nearer.fleets.actors.source import ActorSource

ENOUGH = 60
PLAN = FaultPlan(step_s=1.0, reset_s=2.0, first_wait_s=0.05, most_in_a_row=2)


def groups(*kinds: str, folder: Path | None = None, times: int = 1) -> list[Any]:
    return [partial(group, 2 + number, kind, folder, times) for number, kind in enumerate(kinds)]


@pytest.fixture(scope="module")
def source() -> Iterator[ActorSource]:
    made = ActorSource(ProcessPool(groups("", ""), seed=3))
    yield made
    made.close()


def episodes(source: ActorSource, policy: FoundationModel, version: int) -> list[Episode]:
    return list(source.episodes(ModelPolicy(policy), version, ENOUGH))


def faults_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / FAULTS).read_text().splitlines()]


def test_episodes_are_of_all_robots_and_of_the_version_that_was_asked(
    source: ActorSource,
) -> None:
    assert source.num_robots == 5
    acted = episodes(source, model(), 4)
    assert {episode.robot for episode in acted} == {0, 1, 2, 3, 4}
    assert {episode.policy_version for episode in acted} == {4}
    assert len({episode.seed for episode in acted}) == len(acted)
    steps = sum(episode.num_steps for episode in acted)
    assert ENOUGH <= steps <= ENOUGH + 5 * MAX_STEPS
    assert [source.success(episode).shape for episode in acted] == [
        (episode.num_steps + 1,) for episode in acted
    ]
    source.forget()
    with pytest.raises(KeyError):
        source.success(acted[0])


def test_a_slow_process_changes_no_bit(source: ActorSource) -> None:
    slow = ActorSource(ProcessPool(groups("slow", ""), seed=3))
    try:
        ours, theirs = episodes(source, model(), 1), episodes(slow, model(), 1)
        assert all(same_bits(*pair) for pair in zip(ours, theirs, strict=True))
    finally:
        slow.close()


def test_every_process_acts_by_the_weights_that_were_sent(source: ActorSource) -> None:
    policy = model()
    before = episodes(source, policy, 0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.05)
    after = episodes(source, policy, 0)
    for episode in after:
        first = next(other for other in before if other.seed == episode.seed)
        assert episode.log_prob[0] != first.log_prob[0]
    other = model()
    load_weights(other, trained_weights(policy))
    for ours, theirs in zip(policy.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "told", "sentence"),
    [
        ("raises", "raised", "motor must turn, got smoke"),
        ("hangs", "hung", "a step took more than 1 s"),
        ("refuses", "hung", "a reset took more than 2 s"),
        ("exits", "died", "its process ended with exit status 7"),
    ],
)
def test_a_faulty_robot_is_told_of_and_the_rest_go_on(
    tmp_path: Path, kind: str, told: str, sentence: str
) -> None:
    counted, run = tmp_path / "counted", tmp_path / "run"
    counted.mkdir()
    run.mkdir()
    made = groups("", kind, folder=counted)
    source = ActorSource(ProcessPool(made, seed=0), PLAN, FaultLog(run / FAULTS))
    try:
        acted = episodes(source, model(), 0)
        assert sum(episode.num_steps for episode in acted) >= ENOUGH
        (fault,) = faults_of(run)
        assert (fault["kind"], fault["actor"], fault["robots"]) == (told, 1, [2, 3, 4])
        assert sentence in fault["sentence"]
        assert fault["iteration"] == 0
        assert fault["dropped_episodes"] == 3
        assert fault["again_in_s"] == 0.05
        time.sleep(0.1)
        later = [
            episode for version in range(1, 60) for episode in episodes(source, model(), version)
        ]
        assert {episode.robot for episode in later} == {0, 1, 2, 3, 4}, "it must act again"
        assert len(faults_of(run)) == 1
        seeds = [episode.seed for episode in acted + later]
        assert len(set(seeds)) == len(seeds)
    finally:
        source.close()


def test_a_robot_that_fails_again_and_again_is_left_alone(tmp_path: Path) -> None:
    counted, run = tmp_path / "counted", tmp_path / "run"
    counted.mkdir()
    run.mkdir()
    made = groups("slow", "raises", folder=counted, times=100)
    source = ActorSource(ProcessPool(made, seed=0), PLAN, FaultLog(run / FAULTS))
    try:
        for version in range(40):
            acted = episodes(source, model(), version)
            assert sum(episode.num_steps for episode in acted) >= ENOUGH
            if len(faults_of(run)) == 3:
                break
            time.sleep(0.3)
        assert sum(episode.num_steps for episode in episodes(source, model(), 40)) >= ENOUGH
        rests = [fault["again_in_s"] for fault in faults_of(run)]
        assert rests == [0.05, 0.1, None]
    finally:
        source.close()


def test_practice_ends_with_a_sentence_when_no_robot_is_left(tmp_path: Path) -> None:
    made = [partial(group, 2, "raises", tmp_path, 100)]
    source = ActorSource(ProcessPool(made, seed=0), PLAN)
    try:
        with pytest.raises(NearerError, match=r"a robot of the fleet must work, got 3 faults in a"):
            episodes(source, model(), 0)
    finally:
        source.close()


def test_what_is_no_fault_of_a_robot_ends_practice(tmp_path: Path) -> None:
    source = ActorSource(ProcessPool(groups("", "broken", folder=tmp_path), seed=0), PLAN)
    try:
        with pytest.raises(NearerError, match="weights must be finite"):
            episodes(source, model(), 0)
    finally:
        source.close()


def test_robots_that_cannot_be_made_are_a_sentence() -> None:
    with pytest.raises(NearerError, match="its process ended with exit status 1"):
        ActorSource(ProcessPool([no_group], seed=0))


def no_group(ask: Any) -> Any:
    raise MemoryError("no memory is left")


def test_a_process_that_has_died_between_versions_is_replaced(tmp_path: Path) -> None:
    pool = ProcessPool(groups("", ""), seed=0)
    source = ActorSource(pool, PLAN, FaultLog(tmp_path / FAULTS))
    try:
        episodes(source, model(), 0)
        os.kill(pool.process_id(0), signal.SIGKILL)
        acted = episodes(source, model(), 1)
        assert sum(episode.num_steps for episode in acted) >= ENOUGH
        assert [fault["kind"] for fault in faults_of(tmp_path)] == ["died"]
    finally:
        source.close()


def test_the_learner_waits_for_no_process_that_reads_nothing(tmp_path: Path) -> None:
    pool = ProcessPool(groups("", ""), seed=0)
    source = ActorSource(pool, PLAN, FaultLog(tmp_path / FAULTS))
    try:
        os.kill(pool.process_id(1), signal.SIGSTOP)
        more_than_a_connection_holds = {"weights": np.zeros(10**6)}
        order = Order(iteration=0, part=0, version=0, enough_steps=1)
        pool.send(1, order, more_than_a_connection_holds)
        assert sum(episode.num_steps for episode in episodes(source, model(), 0)) >= ENOUGH
        assert [(fault["kind"], fault["actor"]) for fault in faults_of(tmp_path)] == [("hung", 1)]
    finally:
        source.close()


def test_robots_that_practise_during_updates_are_one_version_behind() -> None:
    source = ActorSource(ProcessPool(groups("", ""), seed=0), max_staleness=1)
    again = ActorSource(ProcessPool(groups("slow", ""), seed=0), max_staleness=1)
    try:
        versions: list[set[int]] = []
        for version in range(4):
            acted = episodes(source, model(), version)
            versions.append({episode.policy_version for episode in acted})
            assert sum(episode.num_steps for episode in acted) >= ENOUGH
            assert [source.success(episode).shape for episode in acted]
            source.forget()
            other = episodes(again, model(), version)
            assert all(same_bits(*pair) for pair in zip(acted, other, strict=True))
        assert versions == [{0}, {0}, {1}, {2}]
    finally:
        source.close()
        again.close()


@pytest.fixture
def served() -> Iterator[tuple[ActorSource, ModelProcess, ProcessPool]]:
    server = ModelProcess(partial(models, 5))
    pool = ProcessPool([partial(served_group, 2, 0), partial(served_group, 3, 2)], 3, server)
    source = ActorSource(pool, PLAN)
    yield source, server, pool
    source.close()


def test_a_served_policy_decides_as_copies_of_it_do(
    source: ActorSource, served: tuple[ActorSource, ModelProcess, ProcessPool]
) -> None:
    policy = model()
    for version in range(2):
        ours, theirs = episodes(served[0], policy, version), episodes(source, policy, version)
        assert [one.seed for one in ours] == [one.seed for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.policy_version == other.policy_version == version
            np.testing.assert_allclose(one.actions, other.actions, atol=1e-5)
            np.testing.assert_allclose(one.log_prob, other.log_prob, atol=1e-4)
            assert one.prediction is not None
            assert other.prediction is not None
            np.testing.assert_allclose(one.prediction.mean, other.prediction.mean, atol=1e-3)
        with torch.no_grad():
            for weight in policy.parameters():
                weight.add_(0.05)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_ends_or_hangs_is_replaced_and_serves_the_weights_of_the_version(
    served: tuple[ActorSource, ModelProcess, ProcessPool],
    fault: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_process, "_CONNECT_S", 1.0)
    acting, server, _ = served
    policy = model()
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.05)
    begun = acting.episodes(ModelPolicy(policy), 0, 2000)
    first = next(begun)
    os.kill(server.process_id, fault)
    acted = [first, *begun]
    assert sum(episode.num_steps for episode in acted) >= 2000
    assert {episode.policy_version for episode in acted} == {0}
    local = ModelPolicy(policy).model
    for episode in (first, acted[-1]):
        inputs = inputs_of(episode.observations.rows(slice(-1)), ["reach"] * episode.num_steps)
        exact = local.log_prob(inputs, torch.from_numpy(episode.actions)).detach().numpy()
        np.testing.assert_allclose(episode.log_prob, exact, atol=1e-3)


LEARNER = """
import sys
from functools import partial
sys.path.insert(0, {tests!r})
from actor_groups import group, model
from nearer.algorithm.model import ModelPolicy
from nearer.fleets.actors.processes import ProcessPool
from nearer.fleets.actors.source import ActorSource

if __name__ == "__main__":
    pool = ProcessPool([partial(group, 2, "slow")], seed=0)
    source = ActorSource(pool)
    print(pool.process_id(0), flush=True)
    list(source.episodes(ModelPolicy(model()), 0, 10**6))
"""


def test_actors_end_with_a_learner_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "learner.py"
    script.write_text(LEARNER.format(tests=str(Path(__file__).parents[2])))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as learner:
        assert learner.stdout is not None
        actor = int(learner.stdout.readline())
        os.kill(actor, 0)
        learner.kill()
    for _ in range(100):
        if not Path(f"/proc/{actor}").exists():
            return
        time.sleep(0.1)
    raise AssertionError("the actor must end with its learner")
