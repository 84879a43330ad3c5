"""Where the banana is touched and how far it is turned, by the simulator's ground truth."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nearer.configs.eval import EvalConfig
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation
from nearer.core.errors import EnvError
from nearer.envs.tabletop.env import Tabletop
from nearer.envs.tabletop.layout import BANANA, BlockLayout
from nearer.envs.tabletop.meshes import banana_tips
from nearer.reporting.html.contact_histogram import contact_histogram
from nearer.runs.json_files import write_documents
from nearer.studies.banana_contacts import (
    PUSHES,
    BananaEpisode,
    all_along,
    along_banana,
    contacts_table,
    pushes,
    pushes_of,
)

ROBOT = np.zeros(1, dtype=np.int64)


@pytest.fixture
def env() -> Iterator[Tabletop]:
    made = Tabletop(families=("banana",), images=False)
    yield made
    made.close()


def layout(yaw: float, along: float) -> BlockLayout:
    """Return a banana at (0.4, 0.1) with the effector over a point of the line between its tips."""
    stem, end = banana_tips()
    point = (stem + end) / 2 + along * (end - stem) / 2
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    return BlockLayout(
        blocks=(BANANA,), poses=np.array([[0.4, 0.1, yaw]]), effector=turn @ point + (0.4, 0.1)
    )


@pytest.mark.parametrize("yaw", [0.0, 1.1, -2.9])
@pytest.mark.parametrize("along", [-1.0, 0.0, 0.4, 1.0])
def test_along_banana_is_one_at_its_ends_however_it_lies(yaw: float, along: float) -> None:
    assert along_banana(layout(yaw, along)) == pytest.approx(along, abs=1e-9)


def towards_banana(env: Tabletop, seed: int, steps: int, aim: float) -> Episode:
    """Record an episode that drives the effector to a point along the banana."""
    stem, end = banana_tips()
    seen = [env.reset(seed=seed)[0]["agent_pos"]]
    actions: list[np.ndarray] = []
    for _ in range(steps):
        now = env.layouts(ROBOT)[0]
        x, y, yaw = now.poses[0]
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        goal = turn @ ((stem + end) / 2 + aim * (end - stem) / 2) + (x, y)
        offset = goal - now.effector
        action = (offset / max(np.hypot(*offset) / 0.03, 1)).astype(np.float32)
        actions.append(action)
        seen.append(env.step(action)[0]["agent_pos"])
    observation = Observation(
        agent_pos=np.stack(seen),
        environment_state=np.zeros((len(seen), 0), np.float32),
        images={},
    )
    return Episode(
        robot=0,
        seed=seed,
        instruction="push the banana",
        policy_version=0,
        observations=EncodedObservation.without_features(observation),
        actions=np.stack(actions),
        log_prob=np.zeros(steps, np.float32),
        ended=Ended.TIME_LIMIT,
    )


@pytest.mark.parametrize(("aim", "sign"), [(1.0, 1), (-1.0, -1)])
def test_pushes_at_an_end_are_found_there_and_turn_the_banana(
    aim: float, sign: int, env: Tabletop
) -> None:
    found = [pushes(env, towards_banana(env, seed, 40, aim)) for seed in range(4)]
    assert np.median(sign * all_along(found)) > 0.6
    assert np.mean([one.turned_rad for one in found]) > 0.3
    assert not any(one.success for one in found)


def test_pushes_of_an_episode_without_contact_are_none(env: Tabletop) -> None:
    still = towards_banana(env, 0, 1, 1.0)
    assert pushes(env, still) == BananaEpisode(along=(), turned_rad=0.0, success=False)


def test_pushes_of_an_episode_that_does_not_repeat_is_refused(env: Tabletop) -> None:
    episode = towards_banana(env, 0, 5, 1.0)
    episode.observations.agent_pos[-1] += 0.01
    with pytest.raises(EnvError, match="must repeat an episode from its seed, got another end"):
        pushes(env, episode)


def test_contacts_table_has_means_with_their_n() -> None:
    before = [
        BananaEpisode(along=(-0.9, 0.1), turned_rad=np.pi, success=True),
        BananaEpisode(along=(), turned_rad=0.0, success=False),
        BananaEpisode(along=(0.0, 0.2), turned_rad=np.pi / 2, success=False),
    ]
    lines = contacts_table(before, before[:1] * 2).splitlines()
    assert lines[2].startswith(
        "| contact steps at an end of the banana, share | 0.25 +- 0.49 (n = 2)"
    )
    assert lines[3].startswith("| rotation an episode, degrees | 90.00 +- 101.84 (n = 3) | 180.00 ")


def test_contact_histogram_has_both_policies_and_shares_that_sum_to_all() -> None:
    places = {"before": np.array([-0.9, 0.0, 0.1]), "after": np.array([7.0])}
    drawn = contact_histogram("t", places, 2 / 3)
    texts = set(re.findall(r">([^<>]+)</text>", drawn))
    assert {"before", "after", "share of the steps with contact, %"} <= texts
    assert "100" in texts, "one place far off is the last bin's"


def test_pushes_that_are_on_disk_are_not_run_again(tmp_path: Path) -> None:
    pushed = [BananaEpisode(along=(0.25, -0.5), turned_rad=1.5, success=True)]
    write_documents(tmp_path / PUSHES, pushed)  # beside no model: nothing could be run
    config = EvalConfig(checkpoint=tmp_path, env="nearer/BananaTable-v0")
    assert pushes_of(config) == pushed
