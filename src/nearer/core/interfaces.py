"""The contracts between robots, policies and rollouts, in numpy: no torch on a robot.

Three contracts:

    Fleet             robots or simulators, stepped row by row
    Policy            chooses actions
    TerminationRule   says which robots are done

What an env may bring besides:

    HasDemonstrator       a scripted demonstrator
    KnowsTruePositions    ground truth of where its objects are
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from nearer.core.arrays import Array
from nearer.core.episode import (
    EncodedObservation,
    Ended,
    Episode,
    Observation,
    StepsToGoPrediction,
)
from nearer.core.spaces import Spaces

Rngs = Sequence[np.random.Generator]
"""One generator a robot, seeded by the episode: the same seed gives the same episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy wants its robots to do now, one row a robot.

    Attributes:
        actions: in the env's units.
        log_prob: exact log-probability of each action; zero for a policy that cannot choose.
    """

    actions: Float32[Array, "robots action"]
    log_prob: Float32[Array, "robots"]


@runtime_checkable
class Policy(Protocol):
    """Chooses actions. May keep a memory per robot, which `begin` clears."""

    def begin(self, robots: Int64[Array, "robots"], rngs: Rngs) -> None:
        """Forget what these robots did before: each starts a new episode now."""
        ...

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        rngs: Rngs,
    ) -> Decision:
        """Sample one action a row of `observation`, using only `rngs` for chance."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """What a termination rule says of robots now, one row a robot.

    Attributes:
        done: its episode ends with this observation.
        prediction: steps-to-go of this observation, where the rule asks a frozen model; the episode
            keeps it, so that scoring need not ask again.
        by_person: how a person ends the episode now, and None where they do not; None: no person
            is there.
    """

    done: Bool[Array, "robots"]
    prediction: StepsToGoPrediction | None = None
    by_person: tuple[Ended | None, ...] | None = None


@runtime_checkable
class TerminationRule(Protocol):
    """Says which robots are done."""

    @property
    def ended_as(self) -> Ended:
        """Return how a rollout ends their episodes."""
        ...

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Return, a row of `observation` each, whether the episode is done.

        Called once for every observation of every episode, the first and the last included.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """What robots observe after a reset, one row a robot, and each one's instruction."""

    observation: Observation | EncodedObservation
    instructions: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensed:
    """What robots observe after a step, one row a robot.

    Attributes:
        env_ended: the env stopped by itself (gymnasium's terminated or truncated). It ends the
            episode; nothing is concluded from it.
    """

    observation: Observation | EncodedObservation
    env_ended: Bool[Array, "robots"]


@runtime_checkable
class Fleet(Protocol):
    """Robots, or simulators of them, stepped row by row; `robots` are slots 0..num_robots-1."""

    @property
    def num_robots(self) -> int:
        """Count the slots."""
        ...

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and actions."""
        ...

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Start an episode on each of `robots`; the same seed gives the same start."""
        ...

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Let each of `robots` act once; the others stand still."""
        ...

    def ground_truth(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Return the simulator's ground truth: does the instruction count as done now?

        For evaluation, audits and the collection of demonstrations alone;
        tests/test_layers.py proves that nothing else asks.
        """
        ...

    def close(self) -> None:
        """Release what the envs hold."""
        ...


@runtime_checkable
class RecordedSuccess(Protocol):
    """The simulator's ground truth of episodes that have ended; evaluation/ records it."""

    def success(self, episode: Episode) -> Bool[Array, "obs"]:
        """Return at which observations of an episode its instruction was done."""
        ...

    def forget(self) -> None:
        """Drop all records."""
        ...


@runtime_checkable
class HasDemonstrator(Protocol):
    """An env that brings a scripted demonstrator."""

    def demonstrator(self, num_robots: int) -> Policy:
        """Return a policy that carries out the env's instructions."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TruePositions:
    """Where a simulator's objects are now, one row a robot; nan where an instruction names none.

    Three objects: the first and the second that the instruction names, and the effector.

    Attributes:
        plane_m: x, y of their centres in the robot's frame, metres.
        image: u, v where they stand on the table, in fractions of the width and the height of the
            first camera's image; (0, 0) is its upper left.
        camera_m: x, y of that camera, metres.
    """

    plane_m: Float64[Array, "robots 3 2"]
    image: Float64[Array, "robots 3 2"]
    camera_m: Float64[Array, "2"]


@runtime_checkable
class KnowsTruePositions(Protocol):
    """A vectorised simulator that knows where the objects of its instructions are.

    For evaluation alone, as `Fleet.ground_truth`; the same test proves it.
    """

    def true_positions(self, robots: Int64[Array, "robots"]) -> TruePositions:
        """Return the present positions of these rows."""
        ...
