"""Robots in processes of their own: episodes of one version, the same whatever the pace."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.core.episode import Episode
from nearer.core.errors import NearerError
from nearer.fleets.processes import ProcessSource, load_weights, trained_weights
from process_groups import MAX_STEPS, group, model

ENOUGH = 60


def groups(*kinds: str) -> list[Any]:
    return [partial(group, 2 + number, kind) for number, kind in enumerate(kinds)]


@pytest.fixture(scope="module")
def source() -> Iterator[ProcessSource]:
    made = ProcessSource(groups("", ""), seed=3)
    yield made
    made.close()


def episodes(source: ProcessSource, policy: FoundationModel, version: int) -> list[Episode]:
    return list(source.episodes(ModelPolicy(policy), version, ENOUGH))


def test_episodes_are_of_all_robots_and_of_the_version_that_was_asked(
    source: ProcessSource,
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


def test_a_slow_process_changes_no_bit(source: ProcessSource) -> None:
    slow = ProcessSource(groups("slow", ""), seed=3)
    try:
        for ours, theirs in zip(
            episodes(source, model(), 1), episodes(slow, model(), 1), strict=True
        ):
            assert (ours.robot, ours.seed) == (theirs.robot, theirs.seed)
            assert np.array_equal(ours.actions, theirs.actions)
            assert np.array_equal(ours.log_prob, theirs.log_prob)
    finally:
        slow.close()


def test_every_process_acts_by_the_weights_that_were_sent(source: ProcessSource) -> None:
    policy = model()
    before = episodes(source, policy, 0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.05)
    after = episodes(source, policy, 0)
    for episode in after:
        inputs_log_prob = episode.log_prob[0]
        first = next(other for other in before if other.seed == episode.seed)
        assert inputs_log_prob != first.log_prob[0]
    other = model()
    load_weights(other, trained_weights(policy))
    for ours, theirs in zip(policy.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_env_that_fails_in_a_process_ends_practice_with_its_sentence() -> None:
    failing = ProcessSource(groups("", "failing"), seed=0)
    try:
        with pytest.raises(NearerError, match="motor must turn, got smoke"):
            episodes(failing, model(), 0)
    finally:
        failing.close()


def test_a_process_that_dies_ends_practice_with_a_sentence() -> None:
    dying = ProcessSource(groups("slow", "slow"), seed=0)
    try:
        acting = dying.episodes(ModelPolicy(model()), 0, 10_000)
        next(acting)
        os.kill(dying.process_ids[1], signal.SIGKILL)
        with pytest.raises(NearerError, match="must live as long as practice, got its end"):
            list(acting)
    finally:
        dying.close()


def test_a_process_that_has_died_between_versions_is_a_sentence() -> None:
    died = ProcessSource(groups("", ""), seed=0)
    try:
        episodes(died, model(), 0)
        os.kill(died.process_ids[0], signal.SIGKILL)
        with pytest.raises(NearerError, match="must live as long as practice, got its end"):
            episodes(died, model(), 1)
    finally:
        died.close()
