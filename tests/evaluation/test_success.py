"""Evaluations by ground truth, their comparison, and replays."""

from dataclasses import replace

import numpy as np
import pytest

from nearer.algorithm.rollout import collect
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
from nearer.testing import CountingFleet, EchoPolicy


def test_evaluate_counts_ground_truth_and_pairs_by_seed() -> None:
    results = []
    for robots in (1, 5, 64):
        fleet = CountingFleet(robots, goal_steps=7)
        evaluation, episodes = evaluate(fleet, EchoPolicy(), episodes=30, max_steps=10, seed=3)
        assert [one.seed for one in evaluation.results] == [one.seed for one in episodes]
        assert evaluation.success.successes == sum(e.ended is Ended.SUCCESS_TRUE for e in episodes)
        results.append(evaluation.results)
    assert results[0] == results[1] == results[2]
    failures = [one for one in results[0] if not one.success]
    assert failures
    assert all(one.num_steps == 10 for one in failures)
    info = eval_info(evaluation, env="counting", checkpoint="echo", policy_sha256="0")
    assert info.overall.n_episodes == 30
    assert info.overall.pc_success == pytest.approx(100 * evaluation.success.value)
    low, high = info.overall.pc_success_ci95
    assert low < info.overall.pc_success < high
    assert info.evaluation == evaluation


def test_compare_by_hand() -> None:
    def outcome(*rows: tuple[bool, int], first_seed: int = 0) -> Evaluation:
        return Evaluation(
            results=tuple(
                EpisodeResult(
                    seed=first_seed + i,
                    instruction="t",
                    success=ok,
                    num_steps=steps,
                    actions_outside=0,
                )
                for i, (ok, steps) in enumerate(rows)
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


def test_replayed_ground_truth_is_what_it_was() -> None:
    fleet = CountingFleet(3, goal_steps=4)
    rollouts = list(
        rollouts_with_ground_truth(fleet, EchoPolicy(), episodes=7, max_steps=6, seed=0)
    )
    ran, truths = [one for one, _ in rollouts], [true for _, true in rollouts]
    # Of different lengths, as practice leaves them.
    termination = GroundTruthTermination(fleet)
    cut = list(collect(fleet, EchoPolicy(), termination, seeds=iter([4, 5, 6, 7]), max_steps=6))
    assert len({one.num_steps for one in cut}) == 2
    for told, true in zip(replayed_ground_truth(fleet, ran), truths, strict=True):
        assert np.array_equal(told, true)
    for one, told in zip(cut, replayed_ground_truth(fleet, cut), strict=True):
        assert told.tolist() == [step >= 4 and one.seed % 3 != 0 for step in range(len(told))]
    other = replace(cut[0], seed=cut[0].seed + 1)
    with pytest.raises(EnvError, match="must repeat the recorded episode bit for bit"):
        replayed_ground_truth(fleet, [other])
