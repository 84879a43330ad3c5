"""Ground truth is recorded at every observation, beside the episode."""

import numpy as np

from nearer.algorithm.rollout import rollout
from nearer.core.episode import Ended
from nearer.evaluation.ground_truth import (
    GroundTruthRecorder,
    GroundTruthTermination,
    NoTermination,
)
from nearer.testing import CountingFleet, EchoPolicy


def test_recorder_success_is_recorded_for_every_observation() -> None:
    recorder = GroundTruthRecorder(CountingFleet(3, goal_steps=4))
    seeds = iter([1, 2, 3, 4])
    for episode in rollout(recorder, EchoPolicy(), NoTermination(), seeds=seeds, max_steps=6):
        expected = [step >= 4 and episode.seed % 3 != 0 for step in range(7)]
        assert recorder.success(episode).tolist() == expected


def test_ground_truth_termination_ends_an_episode_at_success() -> None:
    recorder = GroundTruthRecorder(CountingFleet(2, goal_steps=4))
    termination = GroundTruthTermination(recorder)
    seeds = iter([1, 2])
    for episode in rollout(recorder, EchoPolicy(), termination, seeds=seeds, max_steps=6):
        assert episode.ended is Ended.SUCCESS_TRUE
        assert episode.num_steps == 4
        assert np.flatnonzero(recorder.success(episode)).tolist() == [4]
