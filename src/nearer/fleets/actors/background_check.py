"""The success check beside the control loop: it never makes a robot wait (paper, section 3.4)."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Ended
from nearer.core.interfaces import Fleet, Starts, Termination, TerminationRule
from nearer.fleets.wrapper import FleetWrapper


@dataclass(frozen=True, slots=True)
class _Asked:
    observation: EncodedObservation
    instructions: Sequence[str]
    robots: Int64[Array, "robots"]
    episodes: Int64[Array, "robots"]


class BackgroundCheck:
    """A termination rule that answers at once, by what another one has found so far.

    That one runs in a thread of its own, always on the newest observation, so an episode ends at
    most one check late. Its predictions come too late to be kept with their observations: scoring
    asks the reward model for them.

    Args:
        rule: the detector.
        num_robots: slots.
    """

    ended_as = Ended.SUCCESS_DETECTED

    def __init__(self, rule: TerminationRule, num_robots: int) -> None:
        self._rule = rule
        self._episodes = np.zeros(num_robots, np.int64)
        self._done = np.zeros(num_robots, dtype=bool)
        self._newest: _Asked | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._check_newest, daemon=True).start()

    def begin(self, robots: Int64[Array, "robots"]) -> None:
        """Forget what was found of these robots: each starts a new episode."""
        with self._changed:
            self._episodes[robots] += 1
            self._done[robots] = False

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Return who has been found to be done, and let the rule look at this observation next."""
        with self._changed:
            if self._error is not None:
                raise self._error
            self._newest = _Asked(
                observation, list(instructions), robots.copy(), self._episodes[robots]
            )
            self._changed.notify()
            return Termination(done=self._done[robots])

    def _check_newest(self) -> None:
        while True:
            with self._changed:
                while self._newest is None:
                    self._changed.wait()
                asked, self._newest = self._newest, None
            try:
                found = self._rule.check(asked.observation, asked.instructions, asked.robots)
            except Exception as error:  # the control loop raises it
                self._error = error
                return
            self._note(asked, found.done)

    def _note(self, asked: _Asked, done: Bool[Array, "robots"]) -> None:
        with self._changed:
            still = self._episodes[asked.robots] == asked.episodes
            self._done[asked.robots[still]] |= done[still]


class ReportedResets(FleetWrapper):
    """A fleet that reports to a background check which episodes start."""

    def __init__(self, fleet: Fleet, check: BackgroundCheck) -> None:
        super().__init__(fleet)
        self._check = check

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots."""
        self._check.begin(robots)
        return super().reset(robots, seeds)
