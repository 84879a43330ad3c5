"""Variety: none without noise, bounded with it, the same for the same generator."""

import dataclasses
import math

import numpy as np
import pytest

from nearer.envs.aloha.demonstrator.noise import HUMAN_LIKE, NO_NOISE, Variety


def variety(seed: int = 0, noise=HUMAN_LIKE) -> Variety:
    return Variety(noise, np.random.default_rng(seed))


def test_no_noise_changes_nothing() -> None:
    quiet = variety(noise=NO_NOISE)
    assert quiet.duration_s(1.5) == 1.5
    assert quiet.reaction_s() == quiet.pause_s() == quiet.pitch_rad() == 0
    for drawn in (quiet.bow_m(0.3), quiet.waypoint_m(), quiet.grasp_m(), quiet.meeting_m()):
        assert not drawn.any()
    assert not quiet.lateral_m().any()
    assert not quiet.misses()
    assert not quiet.tremor_m(np.zeros(3)).any()


def test_human_like_draws_stay_within_two_standard_deviations() -> None:
    human = variety()
    grasps = np.array([human.grasp_m() for _ in range(500)])
    assert (np.abs(grasps) <= 2 * np.array(HUMAN_LIKE.grasp_std_m) + 1e-12).all()
    assert grasps[:, 0].std() == pytest.approx(HUMAN_LIKE.grasp_std_m[0], rel=0.2)
    durations = np.array([human.duration_s(1.0) for _ in range(500)])
    bound = 2 * (HUMAN_LIKE.duration_std + HUMAN_LIKE.tempo_std)
    assert (np.abs(np.log(durations)) <= bound).all()
    assert (np.array([human.bow_m(0.2)[2] for _ in range(100)]) >= 0).all()


def test_an_episode_has_one_tempo() -> None:
    steady = dataclasses.replace(NO_NOISE, tempo_std=0.1)
    drawn = {variety(seed, steady).duration_s(1.0) for seed in range(5)}
    assert len(drawn) == 5
    one = variety(0, steady)
    assert one.duration_s(1.0) == one.duration_s(1.0)


def test_pauses_come_as_often_and_last_as_long_as_they_are_said_to() -> None:
    human = variety()
    pauses = np.array([human.pause_s() for _ in range(4000)])
    assert (pauses > 0).mean() == pytest.approx(HUMAN_LIKE.pause_probability, abs=0.03)
    assert pauses.max() == HUMAN_LIKE.pause_max_s
    reactions = [human.reaction_s() for _ in range(200)]
    assert 0 <= min(reactions) < max(reactions) <= HUMAN_LIKE.reaction_s


def test_tremor_keeps_its_size() -> None:
    human, tremor_m, seen = variety(), np.zeros(3), []
    for _ in range(5000):
        tremor_m = human.tremor_m(tremor_m)
        seen.append(tremor_m)
    # cutting a normal distribution off at two standard deviations leaves 0.96 of its spread
    assert np.std(seen) == pytest.approx(0.96 * HUMAN_LIKE.tremor_std_m, rel=0.15)


def test_same_generator_gives_the_same_variety() -> None:
    first, second = variety(3), variety(3)
    assert np.array_equal(first.waypoint_m(), second.waypoint_m())
    assert first.misses() == second.misses()
    assert not math.isclose(variety(3).pitch_rad(), variety(4).pitch_rad())
