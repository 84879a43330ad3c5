"""Evaluations by ground truth, their comparison, and replays."""

from dataclasses import replace

import numpy as np
import pytest

from arm_env import ScriptedPolicy
from nearer.algorithm.rollout import rollout
from nearer.core.action_chunks import Chunking
from nearer.core.arrays import Array
from nearer.core.episode import Ended
from nearer.core.errors import ConfigError, EnvError
from nearer.evaluation.eval_info import eval_info
from nearer.evaluation.ground_truth import GroundTruthTermination
from nearer.evaluation.success import (
    EpisodeResult,
    Evaluation,
    compare,
    evaluate,
    replayed_ground_truth,
    rollouts_with_ground_truth,
)
from nearer.fleets.chunked import ChunkedFleet
from nearer.testing import CountingFleet, EchoPolicy


def test_evaluate_counts_ground_truth_and_pairs_by_seed() -> None:
    results = []
    for robots in (1, 5, 64):
        fleet = CountingFleet(robots, goal_steps=7)
        evaluation, episodes = evaluate(fleet, EchoPolicy(), episodes=30, max_steps=10, seed=3)
        assert [result.seed for result in evaluation.results] == [e.seed for e in episodes]
        assert evaluation.success.successes == sum(e.ended is Ended.SUCCESS_TRUE for e in episodes)
        results.append(evaluation.results)
    assert results[0] == results[1] == results[2]
    failures = [result for result in results[0] if not result.success]
    assert failures
    assert all(failure.num_steps == 10 for failure in failures)
    info = eval_info(evaluation, env="counting", checkpoint="echo", policy_sha256="0")
    assert info.overall.n_episodes == 30
    assert info.overall.pc_success == pytest.approx(100 * evaluation.success.value)
    assert evaluation.success_within(10) == evaluation.success
    assert evaluation.success_within(7) == evaluation.success  # none takes longer
    assert evaluation.success_within(6).successes == 0
    low, high = info.overall.pc_success_ci95
    assert low < info.overall.pc_success < high
    assert info.evaluation == evaluation


def test_compare_four_paired_starts_equals_numbers_by_hand() -> None:
    def outcome(*rows: tuple[bool, int], first_seed: int = 0) -> Evaluation:
        return Evaluation(
            results=tuple(
                EpisodeResult(
                    seed=first_seed + i,
                    instruction="t",
                    success=success,
                    num_steps=steps,
                    actions_outside=0,
                )
                for i, (success, steps) in enumerate(rows)
            ),
            seed=first_seed,
            max_steps=50,
            seconds=1.0,
        )

    before = outcome((True, 30), (False, 50), (False, 50), (True, 20))
    after = outcome((True, 10), (True, 20), (True, 30), (False, 50))
    paired = compare(before, after)
    assert (paired.wins, paired.losses) == (2, 1)
    assert paired.steps_saved == pytest.approx((20 + 30 + 20 - 30) / 4)
    with pytest.raises(ConfigError, match="same seed"):
        compare(before, outcome((True, 30), first_seed=7))


def test_replayed_ground_truth_equals_the_recorded_one() -> None:
    fleet = CountingFleet(3, goal_steps=4)
    rollouts = list(
        rollouts_with_ground_truth(fleet, EchoPolicy(), episodes=7, max_steps=6, seed=0)
    )
    episodes, truths = [episode for episode, _ in rollouts], [success for _, success in rollouts]
    # Of different lengths, as practice leaves them.
    termination = GroundTruthTermination(fleet)
    shorter = list(rollout(fleet, EchoPolicy(), termination, seeds=iter([4, 5, 6, 7]), max_steps=6))
    assert len({episode.num_steps for episode in shorter}) == 2
    for replayed, recorded in zip(replayed_ground_truth(fleet, episodes), truths, strict=True):
        assert np.array_equal(replayed, recorded)
    for episode, replayed in zip(shorter, replayed_ground_truth(fleet, shorter), strict=True):
        assert replayed.tolist() == [
            step >= 4 and episode.seed % 3 != 0 for step in range(len(replayed))
        ]
    other = replace(shorter[0], seed=shorter[0].seed + 1)
    with pytest.raises(EnvError, match="must repeat the recorded episode bit for bit"):
        replayed_ground_truth(fleet, [other])


class FourthStepSuccessFleet(CountingFleet):
    """A robot whose instruction is done after its fourth step, and no longer after the fifth."""

    def ground_truth(self, robots: Array) -> Array:
        return np.full(len(robots), len(self.actions) == 4)


def test_evaluate_in_chunks_counts_control_steps_and_success_after_a_chunk() -> None:
    def success_and_steps(chunk: int) -> tuple[bool, int]:
        fleet = FourthStepSuccessFleet(num_robots=1, goal_steps=4)
        chunks = ChunkedFleet(fleet, Chunking(chunk=chunk))
        policy = ScriptedPolicy([np.zeros((9, chunk), np.float32)])
        evaluation, _ = evaluate(chunks, policy, episodes=1, max_steps=11, seed=0)
        assert len(fleet.actions) <= 11
        (result,) = evaluation.results
        return result.success, result.num_steps

    assert success_and_steps(chunk=2) == (True, 4)
    assert success_and_steps(chunk=3) == (False, 11)
