"""Robots that a person watches and stops: what wraps a fleet, its rule, and its episodes' source.

    fleet = LiveFleet(fleet, live)                  images, steps; holds robots that are stopped
    rule = LiveTermination(rule, live, threshold)   predictions; ends episodes that a person ends
    source = LiveSource(source, live)               episodes that have ended

A robot that is stopped takes no further action: its next control step waits. Robots that move in
lockstep wait together, so one that is stopped holds those of its process.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from jaxtyping import Float32, Int64

from nearer.algorithm.rollout import EpisodeSource
from nearer.core.arrays import Array
from nearer.core.asking import asking_by
from nearer.core.control_clock import ControlClock
from nearer.core.episode import EncodedObservation, Ended, Episode
from nearer.core.errors import EnvError
from nearer.core.interfaces import Fleet, Policy, Sensed, Starts, Termination, TerminationRule
from nearer.core.spaces import Spaces
from nearer.fleets.instructions import ChosenInstructions
from nearer.fleets.live_robots import LiveRobots
from nearer.fleets.wrapper import FleetWrapper


class LiveFleet(FleetWrapper):
    """A fleet whose robots are watched and stopped by a person.

    Args:
        fleet: robots, their images not encoded; each step is a control step.
        live: what a person sees.
        clock: that paces the robots; a hold is no delay of it.
        chosen: tells the innermost fleet what people want practised.
    """

    def __init__(
        self,
        fleet: Fleet,
        live: LiveRobots,
        clock: ControlClock | None = None,
        chosen: ChosenInstructions | None = None,
    ) -> None:
        super().__init__(fleet)
        self.live = live
        self._clock = clock
        self._chosen = chosen or ChosenInstructions()
        self.while_held: Callable[[], None] = _nothing
        """Called now and then while robots are held, or wait for a person."""

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots, after a person has put the scenes in order that need it."""
        self._hold(robots)
        wanted = self.live.reset_wanted(robots)
        if len(wanted):
            self.live.ask(wanted, self.while_held)
        self.live.resetting(robots)
        with (
            self._faults_shown(robots),
            asking_by(partial(self.live.ask, robots, self.while_held)),
        ):
            starts = self._start(robots, seeds)
        self.live.began(robots, starts)
        return starts

    def _start(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Begin episodes, of an instruction that people chose where the env can carry it out."""
        rows: list[int] = robots.tolist()
        wishes = {
            row: wish
            for row, seed in zip(rows, seeds, strict=True)
            if (wish := self.live.chosen(row, seed))
        }
        self._chosen.choose(wishes)
        if not wishes:
            self.live.note_refused(robots, "")
            return super().reset(robots, seeds)
        try:
            starts = super().reset(robots, seeds)
        except EnvError as error:
            self._chosen.choose({})
            starts = super().reset(robots, seeds)
            self.live.note_refused(robots, str(error))
        else:
            self.live.note_refused(robots, "")
        return starts

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step the fleet's robots, as soon as none of them is stopped."""
        self._hold(robots)
        with self._faults_shown(robots):
            sensed = super().step(robots, actions)
        self.live.stepped(robots, sensed)
        return sensed

    def close(self) -> None:
        """Close the fleet."""
        self.live.close()
        super().close()

    @contextmanager
    def _faults_shown(self, robots: Int64[Array, "robots"]) -> Generator[None]:
        try:
            yield
        except EnvError:
            self.live.faulty(robots)
            raise

    def _hold(self, robots: Int64[Array, "robots"]) -> None:
        if self.live.hold(robots, self.while_held) and self._clock:
            self._clock.start()


class LiveTermination:
    """A termination rule whose predictions are shown, and beside which a person ends episodes.

    Args:
        rule: the detector.
        live: what a person sees.
        threshold: s of the detector, in decisions.
    """

    def __init__(self, rule: TerminationRule, live: LiveRobots, threshold: float) -> None:
        self._rule = rule
        self._live = live
        self._threshold = threshold

    @property
    def ended_as(self) -> Ended:
        """Return how the rule's episodes end."""
        return self._rule.ended_as

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Return what the rule says, and whose episode a person ends."""
        found = self._rule.check(observation, instructions, robots)
        ends = self._live.ended_by_person(robots)
        by_person = [None if done else end for end, done in zip(ends, found.done, strict=True)]
        self._live.predicted(robots, found.prediction, self._threshold)
        return replace(found, by_person=tuple(by_person))


class LiveSource:
    """Episodes of robots in this process, which a person sees end.

    Args:
        source: of the episodes.
        live: what a person sees.
    """

    def __init__(self, source: EpisodeSource, live: LiveRobots) -> None:
        self._source = source
        self._live = live

    @property
    def num_robots(self) -> int:
        """Count the robots."""
        return self._source.num_robots

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and decisions."""
        return self._source.spaces

    def episodes(self, policy: Policy, version: int, enough_steps: int) -> Iterator[Episode]:
        """Yield the source's episodes as they end."""
        self._live.begin(version, version)
        for episode in self._source.episodes(policy, version, enough_steps):
            self._live.ended(episode)
            yield episode


def _nothing() -> None:
    """Do nothing."""
