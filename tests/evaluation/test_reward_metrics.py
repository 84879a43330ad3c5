"""Intervals, calibration, audits, alarm and plateau: the numbers people decide by."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nearer.algorithm.early_stopping import PlateauRule
from nearer.algorithm.rollout import collect
from nearer.core.episode import Ended, ScoredEpisode
from nearer.core.errors import ConfigError
from nearer.core.interfaces import TerminationRule
from nearer.core.intervals import Rate, seed_interval, sign_test
from nearer.evaluation.audit import Audit, Auditor, alarm, read_audits
from nearer.evaluation.audit_settings import AuditPlan
from nearer.evaluation.ground_truth import GroundTruthRecorder, GroundTruthTermination
from nearer.evaluation.success import (
    EpisodeResult,
    Evaluation,
    compare,
    eval_info,
    evaluate,
    evaluation_of,
)
from nearer.evaluation.threshold import (
    LabelledEpisode,
    calibration_document,
    choose_threshold,
    detector_curve,
    reliability,
)
from nearer.testing import CountingFleet, CountTermination, EchoPolicy


def test_wilson_intervals_against_published_numbers() -> None:
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I: 81/263, 15/148, 0/20, 1/29
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605)}
    published |= {(0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (wins, total), interval in published.items():
        got = Rate(successes=wins, total=total).interval
        assert got == pytest.approx(interval, abs=6e-5)


def test_a_rate_without_trials_knows_nothing() -> None:
    assert math.isnan(Rate(successes=0, total=0).value)
    assert Rate(successes=0, total=0).interval == (0.0, 1.0)


def test_an_interval_over_seeds_by_hand() -> None:
    low, high = seed_interval([0.1, 0.2, 0.3])
    assert (low, high) == pytest.approx((0.2 - 4.3 * 0.1 / 3**0.5, 0.2 + 4.3 * 0.1 / 3**0.5))


def test_sign_test_by_hand() -> None:
    assert sign_test(0, 0) == 1
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(1, 4) == pytest.approx(2 * (1 + 5) / 32)
    assert sign_test(3, 3) == 1


def labelled(d: list[float], fulfilled_from: int | None) -> LabelledEpisode:
    truth = np.zeros(len(d), dtype=bool)
    if fulfilled_from is not None:
        truth[fulfilled_from:] = True
    return LabelledEpisode(steps_to_go=np.array(d, dtype=np.float32), fulfilled=truth)


def test_detector_curve_by_hand() -> None:
    episodes = [
        labelled([9, 5, 2, 0.5], 3),  # right at s = 1; too early at s = 2
        labelled([9, 1, 0.2, 0.1], None),  # a false alarm at s = 1
        labelled([9, 9, 3, 0.9], 2),  # right, one step late, at s = 1
        labelled([9, 9, 9, 9], 3),  # missed
    ]
    curve = detector_curve(episodes, [0.05, 1, 2, 3])
    assert curve.fired == (0, 3, 3, 3)
    assert curve.precision == pytest.approx((1, 2 / 3, 1 / 3, 1 / 3))
    assert curve.recall == pytest.approx((0, 2 / 3, 1 / 3, 1 / 3))
    assert curve.delay_steps[1] == pytest.approx(0.5)
    assert (curve.episodes, curve.fulfilled) == (4, 3)


def test_the_threshold_is_the_most_sensitive_precise_one() -> None:
    good = [labelled([9, 5, 2, 0.5], 3)] * 9
    curves = {"a": detector_curve([*good, labelled([9, 1.5, 1.5, 1.5], None)], [0.1, 0.5, 1, 1.6])}
    assert choose_threshold(curves, min_precision=0.95) == 0.5
    assert choose_threshold(curves, min_precision=0.5) == 0.5
    strict = {"b": detector_curve([labelled([0.3], None), labelled([0.4], 0)], [0.1, 0.35, 0.45])}
    assert (
        choose_threshold(strict, min_precision=0.9) == 0.45
    )  # nothing is precise: the best there is


def test_without_a_precise_threshold_precision_and_recall_are_weighed() -> None:
    sure_and_rare = [labelled([0.1], 0)] * 2 + [labelled([0.1], None)]
    usual = [labelled([0.4], 0)] * 12 + [labelled([0.4], None)] * 7
    curves = {"a": detector_curve([*sure_and_rare, *usual], [0.2, 0.5])}
    assert curves["a"].precision == pytest.approx((2 / 3, 14 / 22))
    assert choose_threshold(curves, min_precision=0.9) == 0.5


def test_reliability_of_a_perfect_and_of_a_biased_model() -> None:
    draw = np.random.default_rng(0)
    edges = np.arange(50, dtype=np.float32)
    probabilities = draw.dirichlet(np.ones(50), 4000).astype(np.float32)
    truth = np.array([draw.choice(50, p=p / p.sum()) for p in probabilities.astype(np.float64)])
    perfect = reliability(probabilities, edges, truth, 1)
    nominal, observed = perfect["coverage"]["nominal"], perfect["coverage"]["observed"]
    assert np.abs(np.array(nominal) - observed).max() < 0.03
    late = np.minimum(truth + 10, 49)
    biased = reliability(probabilities, edges, late, 1)["coverage"]
    assert np.abs(np.array(nominal) - biased["observed"]).max() > 0.1


@pytest.mark.parametrize("sharp", [1.0, 0.7])
def test_reliability_does_not_depend_on_how_wide_bins_are(sharp: float) -> None:
    probabilities = np.tile(np.array([sharp, 1 - sharp], dtype=np.float32), (1000, 1))
    truth = np.repeat([0, 1], [round(1000 * sharp), round(1000 * (1 - sharp))])
    coverage = reliability(probabilities, np.arange(2, dtype=np.float32), truth, 1)["coverage"]
    assert coverage["observed"] == pytest.approx(coverage["nominal"], abs=1e-6)


def test_a_detector_that_is_never_right_is_said_to_be_none() -> None:
    curves = {"rollouts": detector_curve([labelled([0.3, 0.1], None), labelled([9.0, 9.0], 1)])}
    document = calibration_document(curves, 0.9, {}, ["rollouts"])
    assert "none rightly detects anything on rollouts" in document["rule"]
    good = {"rollouts": detector_curve([labelled([9.0, 0.1], 1)] * 5)}
    assert calibration_document(good, 0.9, {}, ["rollouts"])["rule"].startswith("the best recall")


PLAN = AuditPlan()


def audits(*rows: tuple[int, int, int, float]) -> list[Audit]:
    """(detected, right, fulfilled, progress) of 30 audited episodes each."""
    return [
        Audit(
            iteration=8 * i,
            audited=30,
            detected=detected,
            right=right,
            fulfilled=fulfilled,
            progress_steps=progress,
            progress_variance=25.0,
        )
        for i, (detected, right, fulfilled, progress) in enumerate(rows)
    ]


def test_no_alarm_while_truth_follows() -> None:
    rising = audits(*[(20 + i, 20 + i, 21 + i, 30.0 + 2 * i) for i in range(9)])
    assert [alarm(rising[:n], PLAN) for n in range(1, 10)] == [None] * 9


def test_no_alarm_at_the_ceiling() -> None:
    assert alarm(audits(*[(30, 30, 30, 30.0 + 3 * i) for i in range(8)]), PLAN) is None


def test_alarm_when_progress_rises_and_success_does_not() -> None:
    raised = alarm(audits(*[(20, 19, 20, 30.0)] * 3, *[(18, 17, 17, 40.0)] * 3), PLAN)
    assert raised is not None
    assert "predicted progress rose by 10.0 steps" in raised


def test_alarm_when_the_detector_is_fooled() -> None:
    raised = alarm(audits(*[(28, 10, 11, 30.0)] * 3), PLAN)
    assert raised is not None
    assert "precision fell to" in raised


def test_an_alarm_of_precision_needs_ten_detections() -> None:
    assert Rate(successes=0, total=1).interval[1] < PLAN.min_precision
    assert alarm(audits((1, 0, 0, 30.0)), PLAN) is None
    assert alarm(audits(*[(3, 0, 0, 30.0)] * 3), PLAN) is None
    raised = alarm(audits((4, 0, 0, 30.0), (3, 0, 0, 30.0), (3, 0, 0, 30.0)), PLAN)
    assert raised is not None
    assert "precision fell to 0.000 [0.000, 0.278] (n = 10)" in raised
    assert alarm(audits((1, 0, 0, 30.0)), AuditPlan(min_trials=1)) is not None
    assert alarm(audits((30, 20, 20, 30.0)), AuditPlan(min_precision=0.5)) is None


def test_alarm_when_the_detector_misses_most_successes() -> None:
    # the recall of a run that practice made worse, docs/log.md of 2026-11-22
    raised = alarm(audits(*[(5, 5, 22, 30.0)] * 3), PLAN)
    assert raised is not None
    assert "recall fell to 0.227 [0.143, 0.342] (n = 66)" in raised
    assert "raise --threshold" in raised
    assert alarm(audits(*[(5, 5, 22, 30.0)] * 3), AuditPlan(min_recall=0.3)) is None
    # the interval of 12 of 30 still holds one half
    assert alarm(audits((12, 12, 30, 30.0)), PLAN) is None


def test_an_alarm_of_recall_needs_ten_fulfilled_episodes() -> None:
    assert alarm(audits(*[(0, 0, 3, 30.0)] * 3), PLAN) is None
    raised = alarm(audits(*[(0, 0, 3, 30.0)] * 2, (0, 0, 4, 30.0)), PLAN)
    assert raised is not None
    assert "recall fell to 0.000" in raised
    # only the last three audits count
    assert alarm(audits((0, 0, 30, 30.0), *[(20, 20, 20, 30.0)] * 3), PLAN) is None


def scored_with(fleet: GroundTruthRecorder, termination: TerminationRule) -> list[ScoredEpisode]:
    """Twelve episodes, with a model that says nothing."""
    episodes = collect(fleet, EchoPolicy(), termination, seeds=iter(range(1, 13)), max_steps=9)
    return [
        ScoredEpisode(
            episode=one,
            steps_to_go=np.zeros(one.num_steps + 1, dtype=np.float32),
            steps_to_go_std=np.zeros(one.num_steps + 1, dtype=np.float32),
            quantiles=np.zeros((one.num_steps + 1, 3), dtype=np.float32),
            rewards=np.zeros(one.num_steps, dtype=np.float32),
            returns=np.zeros(one.num_steps, dtype=np.float32),
            solved=np.zeros(one.num_steps + 1, dtype=bool),
        )
        for one in episodes
    ]


def test_episodes_that_the_truth_ended_say_nothing_of_the_detector(tmp_path: Path) -> None:
    fleet = GroundTruthRecorder(CountingFleet(4, goal_steps=7))
    scored = scored_with(fleet, GroundTruthTermination(fleet))
    plan = AuditPlan(min_trials=1)
    report = Auditor(plan, fleet, 0, tmp_path / "audits.jsonl").check(0, scored)
    assert report.metrics["audit/success"] == pytest.approx(8 / 12)
    assert not report.metrics.keys() & {"audit/precision", "audit/recall"}
    assert report.alarm is None


def test_audits_of_earlier_versions_are_read(tmp_path: Path) -> None:
    (expected,) = audits((20, 19, 20, 30.0))
    line = asdict(expected)
    del line["ended_on_truth"]
    (tmp_path / "audits.jsonl").write_text(json.dumps(line) + "\n")
    assert read_audits(tmp_path / "audits.jsonl") == [expected]


def test_audits_compare_with_the_truth_of_each_episode(tmp_path: Path) -> None:
    # the judge claims success after 5 steps, the truth comes after 7: nothing it ends is right
    fleet = GroundTruthRecorder(CountingFleet(4, goal_steps=7))
    scored = scored_with(fleet, CountTermination(5))
    plan = AuditPlan(audit_every=2, audit_episodes=100)
    auditor = Auditor(plan, fleet, 0, tmp_path / "audits.jsonl")
    record = auditor.check(0, scored).metrics
    assert (record["audit/precision"], record["audit/success"]) == (0.0, 0.0)
    assert record["audit/episodes"] == 12
    assert auditor.check(1, scored).metrics == {}
    # a resumed run finds the audit on disk, although the truth is gone
    again = Auditor(plan, fleet, 0, tmp_path / "audits.jsonl")
    assert again.check(0, scored).metrics == record


def history(*blocks: tuple[int, int]) -> list[Any]:
    """Two iterations a block with these detections and control steps in all."""
    return [
        SimpleNamespace(detected=detected // 2, env_steps=steps // 2)
        for detected, steps in blocks
        for _ in range(2)
    ]


def test_plateau_keeps_the_best_block_and_stops_after_patience() -> None:
    rule = PlateauRule(block_iterations=2, patience_blocks=2, min_gain=0.02)
    rising = history((10, 1000), (20, 1000), (30, 1000))
    assert rule.scores(rising) == [10, 20, 30]
    assert not rule.over(rising)
    assert rule.best_step(rising) == 6  # the newest, as good as its block
    fallen = rising + history((28, 1000), (24, 1000))
    assert rule.over(fallen)
    assert rule.best_step(fallen) == 4  # the one that started the best block
    assert not rule.over(rising + history((28, 1000), (40, 1000)))


def test_plateau_before_the_first_block() -> None:
    rule = PlateauRule(block_iterations=4)
    assert rule.best_step(history((2, 10))) == 0
    assert not rule.over(history((2, 10)))


def test_evaluation_counts_the_truth_and_pairs_by_seed() -> None:
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
    info = eval_info(evaluation)
    assert info["overall"]["n_episodes"] == 30
    assert info["overall"]["pc_success"] == pytest.approx(100 * evaluation.success.value)
    low, high = info["overall"]["pc_success_ci95"]
    assert low < info["overall"]["pc_success"] < high
    assert evaluation_of(info).results == evaluation.results


def test_paired_comparison_by_hand() -> None:
    def outcome(*rows: tuple[bool, int], first_seed: int = 0) -> Evaluation:
        return Evaluation(
            results=tuple(
                EpisodeResult(seed=first_seed + i, instruction="t", success=ok, num_steps=steps)
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
