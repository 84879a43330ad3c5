"""Audits of the detector in practice, and when they raise an alarm."""

from pathlib import Path

import numpy as np
import pytest

from nearer.algorithm.rollout import rollout
from nearer.core.episode import ScoredEpisode
from nearer.core.interfaces import TerminationRule
from nearer.core.intervals import Rate
from nearer.evaluation.audit import Audit, Auditor, alarm
from nearer.evaluation.audit_settings import AuditPlan
from nearer.evaluation.ground_truth import GroundTruthRecorder, GroundTruthTermination
from nearer.testing import CountingFleet, CountTermination, EchoPolicy

PLAN = AuditPlan()


def audits(*rows: tuple[int, int, int, float]) -> list[Audit]:
    """Return audits of 30 episodes by (detected, correctly detected, success, progress)."""
    return [
        Audit(
            iteration=8 * i,
            num_episodes=30,
            num_detections=detected,
            num_correct_detections=right,
            num_success=success,
            num_ended_by_ground_truth=0,
            progress_steps=progress,
            progress_variance=25.0,
        )
        for i, (detected, right, success, progress) in enumerate(rows)
    ]


def test_alarm_while_success_follows_progress_is_none() -> None:
    rising = audits(*[(20 + i, 20 + i, 21 + i, 30.0 + 2 * i) for i in range(9)])
    assert [alarm(rising[:n], PLAN) for n in range(1, 10)] == [None] * 9


def test_alarm_at_the_ceiling_is_none() -> None:
    assert alarm(audits(*[(30, 30, 30, 30.0 + 3 * i) for i in range(8)]), PLAN) is None


def test_alarm_of_progress_without_success_is_raised() -> None:
    raised = alarm(audits(*[(20, 19, 20, 30.0)] * 3, *[(18, 17, 17, 40.0)] * 3), PLAN)
    assert raised is not None
    assert "predicted progress rose by 10.0 steps" in raised


def test_alarm_of_low_precision_is_raised() -> None:
    raised = alarm(audits(*[(28, 10, 11, 30.0)] * 3), PLAN)
    assert raised is not None
    assert "precision fell to" in raised


def test_alarm_of_precision_needs_ten_detections() -> None:
    assert Rate(successes=0, total=1).interval[1] < PLAN.min_precision
    assert alarm(audits((1, 0, 0, 30.0)), PLAN) is None
    assert alarm(audits(*[(3, 0, 0, 30.0)] * 3), PLAN) is None
    raised = alarm(audits((4, 0, 0, 30.0), (3, 0, 0, 30.0), (3, 0, 0, 30.0)), PLAN)
    assert raised is not None
    assert "precision fell to 0.000 [0.000, 0.278] (n = 10)" in raised
    assert alarm(audits((1, 0, 0, 30.0)), AuditPlan(min_trials=1)) is not None
    assert alarm(audits((30, 20, 20, 30.0)), AuditPlan(min_precision=0.5)) is None


def test_alarm_of_low_recall_is_raised() -> None:
    # the recall of a run that practice made worse, docs/log.md of 2026-11-22
    raised = alarm(audits(*[(5, 5, 22, 30.0)] * 3), PLAN)
    assert raised is not None
    assert "recall fell to 0.227 [0.143, 0.342] (n = 66)" in raised
    assert "raise --threshold" in raised
    assert alarm(audits(*[(5, 5, 22, 30.0)] * 3), AuditPlan(min_recall=0.3)) is None
    # the interval of 12 of 30 still holds one half
    assert alarm(audits((12, 12, 30, 30.0)), PLAN) is None


def test_alarm_of_recall_needs_ten_successes() -> None:
    assert alarm(audits(*[(0, 0, 3, 30.0)] * 3), PLAN) is None
    raised = alarm(audits(*[(0, 0, 3, 30.0)] * 2, (0, 0, 4, 30.0)), PLAN)
    assert raised is not None
    assert "recall fell to 0.000" in raised
    # only the last three audits count
    assert alarm(audits((0, 0, 30, 30.0), *[(20, 20, 20, 30.0)] * 3), PLAN) is None


def score_zero(fleet: GroundTruthRecorder, termination: TerminationRule) -> list[ScoredEpisode]:
    """Return twelve episodes with all scores 0."""
    episodes = rollout(fleet, EchoPolicy(), termination, seeds=iter(range(1, 13)), max_steps=9)
    return [
        ScoredEpisode(
            episode=episode,
            steps_to_go=np.zeros(episode.num_steps + 1, dtype=np.float32),
            steps_to_go_std=np.zeros(episode.num_steps + 1, dtype=np.float32),
            quantiles=np.zeros((episode.num_steps + 1, 3), dtype=np.float32),
            rewards=np.zeros(episode.num_steps, dtype=np.float32),
            returns=np.zeros(episode.num_steps, dtype=np.float32),
            solved=np.zeros(episode.num_steps + 1, dtype=bool),
        )
        for episode in episodes
    ]


def test_auditor_episodes_ended_by_ground_truth_are_left_out(tmp_path: Path) -> None:
    fleet = GroundTruthRecorder(CountingFleet(4, goal_steps=7))
    scored = score_zero(fleet, GroundTruthTermination(fleet))
    plan = AuditPlan(min_trials=1)
    report = Auditor(plan, fleet, 0, tmp_path / "audits.jsonl").check(0, scored)
    assert report.metrics["audit/success"] == pytest.approx(8 / 12)
    assert not report.metrics.keys() & {"audit/precision", "audit/recall"}
    assert report.alarm is None


def test_auditor_early_detections_have_no_precision(tmp_path: Path) -> None:
    # the detector claims success after 5 steps, ground truth comes after 7: no detection is right
    fleet = GroundTruthRecorder(CountingFleet(4, goal_steps=7))
    scored = score_zero(fleet, CountTermination(5))
    plan = AuditPlan(audit_every=2, audit_episodes=100)
    auditor = Auditor(plan, fleet, 0, tmp_path / "audits.jsonl")
    record = auditor.check(0, scored).metrics
    assert (record["audit/precision"], record["audit/success"]) == (0.0, 0.0)
    assert record["audit/episodes"] == 12
    assert auditor.check(1, scored).metrics == {}
    # a resumed run reads the audit from disk, without its ground truth
    again = Auditor(plan, fleet, 0, tmp_path / "audits.jsonl")
    assert again.check(0, scored).metrics == record
