"""Commands obey the limits, pass as they are where they do already, and are counted otherwise."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearer.core.errors import ConfigError, EnvError
from nearer.envs.robots.motion_limits import (
    ClipCounts,
    MotionLimiter,
    MotionLimits,
    motion_limits,
)

PERIOD_S = 0.1
ARM = motion_limits(
    ["shoulder", "elbow"],
    {"shoulder": [-1, 1], "elbow": [0, 2]},
    max_velocity={"shoulder": 1.0, "elbow": 2.0},
    max_acceleration=5.0,
)


def limiter_of(limits: MotionLimits = ARM, start: tuple[float, ...] = (0.0, 1.0)) -> MotionLimiter:
    limiter = MotionLimiter(limits, PERIOD_S)
    limiter.start(np.array(start))
    return limiter


def test_position_beyond_its_limit_ends_at_it() -> None:
    limiter = limiter_of(start=(0.98, 1.0))
    limited = limiter.limit(np.array([1.01, 1.0]))
    assert limited.action == pytest.approx([1.0, 1.0])
    assert limited.clipped == ("position",)


def test_jump_is_limited_to_the_velocity_and_to_what_speeds_up_in_a_period() -> None:
    limiter = limiter_of()
    sent = [limiter.limit(np.array([0.5, 1.0])).action[0] for _ in range(4)]
    # 5 units/s^2 are 0.5 units/s in a period, and 1 unit/s is the most.
    assert sent == pytest.approx([0.05, 0.15, 0.25, 0.35])
    assert limiter.counts() == ClipCounts(
        commands=4, not_finite=0, position=0, velocity=4, acceleration=1
    )


def test_braking_is_not_limited_and_never_overshoots() -> None:
    limiter = limiter_of()
    for target in (0.05, 0.15, 0.25):
        assert limiter.limit(np.array([target, 1.0])).clipped == ()
    stopped = limiter.limit(np.array([0.25, 1.0]))
    assert stopped.action[0] == pytest.approx(0.25)
    assert stopped.clipped == ()
    back = limiter.limit(np.array([-1.0, 1.0]))
    assert back.action[0] == pytest.approx(0.20)


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_action_that_is_not_finite_leaves_the_robot_where_it_is(strange: float) -> None:
    limiter = limiter_of()
    limiter.limit(np.array([0.05, 1.0]))
    limited = limiter.limit(np.array([0.1, strange]))
    assert limited.action == pytest.approx([0.05, 1.0])
    assert limited.clipped == ("not_finite",)
    assert limiter.limit(np.array([0.2, 1.0])).action[0] == pytest.approx(0.10)


def test_robot_beyond_its_limits_comes_back_no_faster_than_allowed() -> None:
    limiter = limiter_of(start=(1.3, 1.0))
    sent = [limiter.limit(np.array([2.0, 1.0])).action[0] for _ in range(4)]
    assert sent == pytest.approx([1.25, 1.15, 1.05, 1.0])


BASE = motion_limits(
    ["x.vel", "lift"],
    {"x.vel": [-1, 1]},
    max_velocity={"x.vel": 0.5, "lift": 0.2},
    max_acceleration=float("inf"),
    commands={"x.vel": "velocity", "lift": "displacement"},
)


def test_velocities_and_displacements_are_limited_in_their_own_units() -> None:
    limiter = limiter_of(BASE, start=(0.0, np.nan))
    limited = limiter.limit(np.array([3.0, -3.0]), np.array([0.0, 0.0]))
    assert limited.action == pytest.approx([0.5, -0.02])
    assert limited.clipped == ("velocity",)


def test_velocity_does_not_lead_beyond_a_measured_position() -> None:
    limiter = limiter_of(BASE)
    near = limiter.limit(np.array([0.5, 0.0]), np.array([0.98, 0.0]))
    assert near.action[0] == pytest.approx(0.2)
    beyond = limiter.limit(np.array([0.5, 0.0]), np.array([1.2, 0.0]))
    assert beyond.action[0] == 0
    back = limiter.limit(np.array([-0.5, 0.0]), np.array([1.2, 0.0]))
    assert back.action[0] == pytest.approx(-0.5)
    assert limiter.counts().position == 2


wild = st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(wild, wild), min_size=1, max_size=30))
def test_whatever_is_asked_for_the_limits_hold(actions: list[tuple[float, float]]) -> None:
    limiter = limiter_of()
    before, velocity = np.array([0.0, 1.0]), np.zeros(2)
    for action in actions:
        sent = limiter.limit(np.array(action)).action
        assert (sent >= np.array(ARM.low) - 1e-9).all()
        assert (sent <= np.array(ARM.high) + 1e-9).all()
        now = (sent - before) / PERIOD_S
        assert (np.abs(now) <= np.array(ARM.max_velocity) + 1e-9).all()
        faster = np.abs(now) - np.where(np.sign(now) == np.sign(velocity), np.abs(velocity), 0)
        assert (faster <= np.array(ARM.max_acceleration) * PERIOD_S + 1e-9).all()
        before, velocity = sent, now


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(wild, wild), min_size=1, max_size=20))
def test_commands_that_obey_pass_unchanged(actions: list[tuple[float, float]]) -> None:
    first, again = limiter_of(), limiter_of()
    for action in actions:
        sent = first.limit(np.array(action)).action
        second = again.limit(sent.astype(np.float32))
        assert second.clipped == ()
        assert second.action == pytest.approx(sent, abs=1e-5)


def test_action_of_another_size_is_a_sentence() -> None:
    with pytest.raises(EnvError, match=r"must have 2 numbers \(shoulder, elbow\), got shape \(3,"):
        limiter_of().limit(np.zeros(3))


def test_start_without_a_position_names_the_axis() -> None:
    with pytest.raises(EnvError, match="must know where elbow is, got nan; check the sensor"):
        limiter_of(start=(0.0, np.nan))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"positions": {"a": [0, 1]}}, "greatest position of a, b, got none of b; a policy"),
        ({"positions": {"a": [0, 1], "b": [0]}}, r'pass "limits": {"b": \[LEAST, GREATEST\]}'),
        ({"positions": {"a": [0, 1], "b": [1, 0]}}, r"limits of b must be a least .* \[1.0, 0.0\]"),
        ({"positions": {"a": [0, 1], "b": [0, float("inf")]}}, "limits of b must be a least"),
        ({"positions": {"a": [0, 1], "b": [0, 1], "c": [0, 1]}}, "must name axes .* got c;"),
        ({"max_velocity": 0}, "max_velocity of a must be a finite number above 0, got 0.0"),
        ({"max_velocity": {"a": 1}}, "max_velocity must have a number for each of a, b, got none"),
        ({"max_acceleration": -1}, "max_acceleration of a must be above 0"),
    ],
)
def test_limits_that_are_missing_or_wrong_are_a_sentence(
    changed: dict[str, Any], sentence: str
) -> None:
    whole: dict[str, Any] = {"positions": {"a": [0, 1], "b": [0, 1]}, "max_velocity": 1.0}
    with pytest.raises(ConfigError, match=sentence):
        motion_limits(["a", "b"], **(whole | changed))


def test_full_speed_takes_a_quarter_of_a_second_where_nobody_says_otherwise() -> None:
    limits = motion_limits(["a"], {"a": [0, 1]}, max_velocity=0.5)
    assert limits.max_acceleration == (2.0,)
