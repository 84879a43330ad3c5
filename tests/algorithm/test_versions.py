"""Samples of Stage 2 are of the version that learns from them, or told to be older."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actor_groups import group, model
from nearer.algorithm.improve import Setup, practise
from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.rollout import LockstepSource
from nearer.core.episode import Episode
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Policy
from nearer.datasets.practice_store import PracticeStore
from nearer.evaluation.audit import Auditor
from nearer.evaluation.audit_settings import AuditPlan


class Late(LockstepSource):
    """Gives episodes of an older version than it was asked for."""

    def episodes(self, policy: Policy, version: int, enough_steps: int) -> Iterator[Episode]:
        for episode in LockstepSource.episodes(self, policy, version, enough_steps):
            yield replace(episode, policy_version=version - 1)


def practised(folder: Path, max_staleness: int) -> list[int]:
    robots = group(2)
    source = Late(
        fleet=robots.fleet, termination=robots.termination, max_steps=robots.max_steps, seed=0
    )
    setup = Setup(
        source=source,
        reward_model=model(),
        threshold_steps=0.0,
        store=PracticeStore.open(folder, source.spaces, 10, "point mass", 0, 0),
        audits=Auditor(AuditPlan(), robots.recorded, 0, folder / "audits.jsonl"),
        max_staleness=max_staleness,
    )
    practice = Practice(batch_size=8, updates_per_iteration=2)
    scored = practise(practice, Deviations(), model(), setup, 5)
    return [one.episode.policy_version for one in scored]


def test_no_sample_of_another_version_is_learned_from(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="1 updates old"):
        practised(tmp_path, max_staleness=0)


def test_samples_of_the_version_before_are_learned_from_where_that_is_asked(
    tmp_path: Path,
) -> None:
    assert set(practised(tmp_path, max_staleness=1)) == {4}


def test_samples_are_weighed_once() -> None:
    with pytest.raises(ConfigError, match=r"importance-cap must be 0 with --deviate\.ppo-clip"):
        Deviations(ppo_clip=0.2, importance_cap=1.0)
