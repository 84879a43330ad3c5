"""Metrics of an iteration of Stage 2, as a value and as the record that a run keeps."""

from dataclasses import replace

import numpy as np
import pytest

from nearer.algorithm.improve_metrics import AuditReport, IterationMetrics, iteration_metrics
from nearer.algorithm.learner import Learned
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation, ScoredEpisode
from nearer.core.errors import NearerError

AUDIT = AuditReport(metrics={"audit/success": 0.5, "audit/episodes": 4}, alarm="look at it")


def scored(steps_to_go: list[float], ended: Ended) -> ScoredEpisode:
    d = np.array(steps_to_go, dtype=np.float32)
    steps = len(d) - 1
    numbers = np.zeros((len(d), 1), dtype=np.float32)
    observations = EncodedObservation.without_features(
        Observation(agent_pos=numbers, environment_state=numbers)
    )
    episode = Episode(
        robot=0,
        seed=0,
        instruction="",
        policy_version=0,
        observations=observations,
        actions=np.zeros((steps, 1), dtype=np.float32),
        log_prob=np.full(steps, -1.5, dtype=np.float32),
        ended=ended,
    )
    return ScoredEpisode(
        episode=episode,
        steps_to_go=d,
        steps_to_go_std=d,
        quantiles=np.stack([d, d, d], axis=1),
        rewards=d[:-1] - d[1:],
        returns=d[:-1],
        solved=d < 1,
    )


def metrics(before: IterationMetrics | None = None, chunk: int = 1) -> IterationMetrics:
    episodes = [
        scored([5, 3, 0], Ended.SUCCESS_DETECTED),
        scored([4, 4, 4, 4], Ended.TIME_LIMIT),
    ]
    learned = Learned(loss=0.25, policy_change=0.01)
    return iteration_metrics(
        before, episodes, chunk=chunk, learned=learned, actions_outside=2, audit=AUDIT
    )


def test_iteration_metrics_of_two_episodes_equal_numbers_by_hand() -> None:
    first = metrics()
    assert (first.iteration, first.episodes, first.env_steps, first.detected) == (1, 2, 5, 1)
    assert (first.detected_success, first.episode_length) == (0.5, 2.5)
    assert first.progress_steps == 2.5  # 5 - 0 and 4 - 4
    assert first.mean_return == 4.0  # 5, 3, 4, 4, 4
    assert (first.loss, first.entropy, first.policy_change) == (0.25, 1.5, 0.01)


def test_iteration_metrics_after_another_adds_to_its_totals() -> None:
    second = metrics(before=metrics(), chunk=5)
    assert (second.iteration, second.total_episodes) == (2, 4)
    assert second.env_steps == 25, "control steps, five a decision"
    assert second.total_env_steps == 30


def test_iteration_metrics_from_their_own_record_are_equal() -> None:
    assert IterationMetrics.from_record(metrics().to_record()) == metrics()
    quiet = replace(metrics(), audit=AuditReport())
    assert IterationMetrics.from_record(quiet.to_record()) == quiet


def test_iteration_metrics_from_a_record_without_a_metric_are_refused() -> None:
    record = {**metrics().to_record(), "practice/detected": None}
    with pytest.raises(NearerError, match=r"must have the number practice/detected, got None"):
        IterationMetrics.from_record(record)
