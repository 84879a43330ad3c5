"""A success check beside the control loop makes no robot wait, and ends the right episodes."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nearer.core.episode import EncodedObservation, Ended, Observation
from nearer.core.interfaces import Termination
from nearer.fleets.actors.background_check import BackgroundCheck, ReportedResets
from nearer.testing import CountingFleet
from waiting import until

BOTH = np.arange(2)


class SlowRule:
    """Finds robot 1 done at any observation with a positive position, once it may go on."""

    ended_as = Ended.SUCCESS_DETECTED

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.seen: list[float] = []

    def check(
        self, observation: EncodedObservation, instructions: Sequence[str], robots: Any
    ) -> Termination:
        assert self.may_go_on.wait(10), "the test must let the rule go on"
        self.seen.append(float(observation.agent_pos[0, 0]))
        if observation.agent_pos[0, 0] < 0:
            raise ValueError("no such position")
        return Termination(done=(robots == 1) & (observation.agent_pos[:, 0] > 0))


def at(position: float) -> EncodedObservation:
    return EncodedObservation.without_features(
        Observation(
            agent_pos=np.full((2, 1), position, np.float32),
            environment_state=np.zeros((2, 0), np.float32),
        )
    )


def ask(check: BackgroundCheck, position: float) -> list[bool]:
    return check.check(at(position), ["go", "go"], BOTH).done.tolist()


def test_nobody_waits_for_the_rule_and_it_sees_the_newest_observation() -> None:
    rule = SlowRule()
    check = BackgroundCheck(rule, 2)
    started = time.monotonic()
    for step in range(50):
        assert ask(check, float(step)) == [False, False]
    assert time.monotonic() - started < 5
    rule.may_go_on.set()
    until(lambda: rule.seen[-1:] == [49.0])
    assert len(rule.seen) <= 2, "observations in between are left out"
    until(lambda: ask(check, 50.0) == [False, True])


def test_what_is_found_of_an_episode_does_not_end_the_next() -> None:
    rule = SlowRule()
    check = BackgroundCheck(rule, 2)
    fleet = ReportedResets(CountingFleet(2, 5), check)
    assert ask(check, 1.0) == [False, False]
    fleet.reset(BOTH, [1, 2])  # before the rule has answered
    rule.may_go_on.set()
    until(lambda: rule.seen == [1.0])
    for _ in range(20):
        assert ask(check, 0.0) == [False, False]
        time.sleep(0.005)


def test_an_error_of_the_rule_is_raised_in_the_control_loop() -> None:
    rule = SlowRule()
    rule.may_go_on.set()
    check = BackgroundCheck(rule, 2)
    ask(check, -1.0)
    until(lambda: rule.seen == [-1.0])
    time.sleep(0.05)
    with pytest.raises(ValueError, match="no such position"):
        ask(check, 1.0)
