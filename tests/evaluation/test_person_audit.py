"""Audits that a person answers: who is asked, what counts, what a continued run knows."""

from pathlib import Path

import numpy as np
import pytest

from nearer.core.episode import EncodedObservation, Ended, Episode, Observation, ScoredEpisode
from nearer.evaluation.audit_settings import AuditPlan
from nearer.evaluation.person_audit import PersonAuditor, audits_of, read_questions
from nearer.runs.clips import clip_path, write_clip
from nearer.runs.ledger import ANSWER, LEDGER, Entry, Ledger

PLAN = AuditPlan(audits="person", audit_every=2, audit_episodes=10, min_trials=5)


def scored(seed: int, ended: Ended = Ended.SUCCESS_DETECTED) -> ScoredEpisode:
    d = np.array([4.0, 1.0], np.float32)
    none = np.zeros((2, 0), np.float32)
    episode = Episode(
        robot=seed % 3,
        seed=seed,
        instruction="push",
        policy_version=0,
        observations=EncodedObservation.without_features(
            Observation(agent_pos=none, environment_state=none)
        ),
        actions=np.zeros((1, 1), np.float32),
        log_prob=np.zeros(1, np.float32),
        ended=ended,
    )
    return ScoredEpisode(
        episode=episode,
        steps_to_go=d,
        steps_to_go_std=d,
        quantiles=np.stack([d, d, d], axis=1),
        rewards=d[:-1] - d[1:],
        returns=d[:-1],
        solved=d < 0,
    )


def episodes(first: int) -> list[ScoredEpisode]:
    """Return twelve episodes, of which eight were detected."""
    ends = [Ended.SUCCESS_DETECTED] * 8 + [Ended.TIME_LIMIT] * 4
    return [scored(first + row, ended) for row, ended in enumerate(ends)]


def answer(run: Path, question: int, text: str) -> None:
    entry = Entry(
        key=f"{question}{text}",
        at_s=0.0,
        who="operate@here",
        action=ANSWER + text,
        robot=None,
        episode=None,
        question=question,
        seen="",
        note="",
    )
    Ledger(run / LEDGER).add(entry)


def test_a_sample_is_asked_about_and_its_clips_stay(tmp_path: Path) -> None:
    auditor = PersonAuditor(PLAN, tmp_path, seed=0)
    for seed in range(12):
        write_clip(tmp_path, 0, seed, b"a strip")
    assert auditor.check(0, episodes(0)).metrics == {}
    (asked,) = read_questions(tmp_path)
    assert [one.number for one in asked.questions] == list(range(10))
    seeds = {one.seed for one in asked.questions}
    assert len(seeds) == 10
    assert {seed for seed in range(12) if clip_path(tmp_path, 0, seed).exists()} == seeds
    assert all(one.detected == (one.seed < 8) for one in asked.questions)
    auditor.check(1, episodes(20))
    assert len(read_questions(tmp_path)) == 1, "every second iteration"
    auditor.check(2, episodes(40))
    assert [one.number for one in read_questions(tmp_path)[1].questions] == list(range(10, 20))


def test_answers_become_audits_whenever_they_come(tmp_path: Path) -> None:
    auditor = PersonAuditor(PLAN, tmp_path, seed=0)
    auditor.check(0, episodes(0))
    assert audits_of(tmp_path) == []
    questions = read_questions(tmp_path)[0].questions
    wrong = [one for one in questions if one.detected][:2]
    for one in questions[:9]:
        answer(tmp_path, one.number, "no" if one in wrong or not one.detected else "yes")
    answer(tmp_path, questions[9].number, "cannot tell")
    report = auditor.check(1, episodes(20))
    (audit,) = audits_of(tmp_path)
    detected = sum(one.detected for one in questions[:9])
    assert (audit.num_episodes, audit.num_detections) == (9, detected)
    assert audit.num_correct_detections == detected - 2
    assert report.metrics["audit/precision"] == pytest.approx((detected - 2) / detected)
    assert report.metrics["audit/episodes"] == 9
    assert auditor.check(2, episodes(40)).metrics == {}, "nothing new was said"


def test_an_alarm_rests_on_what_people_said(tmp_path: Path) -> None:
    auditor = PersonAuditor(PLAN, tmp_path, seed=0)
    auditor.check(0, episodes(0))
    for number in range(10):
        answer(tmp_path, number, "no")
    alarm = auditor.check(1, episodes(20)).alarm
    assert alarm is not None
    assert "precision fell to 0.000" in alarm
    for number in range(10):
        answer(tmp_path, number, "yes")  # the person had the keys the wrong way round
    assert auditor.check(2, episodes(40)).alarm is None


def test_a_damaged_ledger_does_not_end_practice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    auditor = PersonAuditor(PLAN, tmp_path, seed=0)
    (tmp_path / LEDGER).write_text("no table of anything, but long enough to be read")
    assert auditor.check(0, episodes(0)).metrics == {}
    assert "must be the console's ledger" in caplog.text


def test_a_continued_run_asks_nothing_twice(tmp_path: Path) -> None:
    PersonAuditor(PLAN, tmp_path, seed=0).check(0, episodes(0))
    before = read_questions(tmp_path)
    answer(tmp_path, 0, "yes")
    again = PersonAuditor(PLAN, tmp_path, seed=0)
    assert again.check(0, episodes(0)).metrics["audit/episodes"] == 1
    assert read_questions(tmp_path) == before
