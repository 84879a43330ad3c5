"""What learner, actors and the server of the models tell each other, and how it travels.

An actor is a process with robots and what moves them (paper, section 3.4).

    learner   Order, weights of a version                 -->  actor
              Ready, Beat, EpisodeEnded, Paused, Failed   <--
    actor     EncodeQuestion, DecideQuestion              -->  server, where models are served
              EncodedObservation, Decided                 <--
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Bool, Int64

from nearer.core.arrays import Array
from nearer.core.control_clock import ClockSummary
from nearer.core.episode import EncodedObservation, Episode, Observation
from nearer.core.interfaces import Decision, Termination
from nearer.core.spaces import Spaces

Weights: TypeAlias = Mapping[str, Array]
"""What Stage 2 trains of a policy, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Decisions that an actor is to take.

    Attributes:
        iteration: of Stage 2, which learns from them.
        part: counts the actor's orders for this iteration: with it and the actor's number it fixes
            the seeds.
        version: of the weights; below `iteration` where robots practise during updates.
        enough_steps: no episode starts once so many decisions have been taken.
    """

    iteration: int
    part: int
    version: int
    enough_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The robots have been made.

    Attributes:
        spaces: sizes of observations and decisions.
        num_robots: of this actor.
    """

    spaces: Spaces
    num_robots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A sign of life.

    Attributes:
        resetting: robots are about to be reset, which may take a person's time.
        in_flight: episodes that have started and not ended.
    """

    resetting: bool
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeEnded:
    """An episode, whole.

    Attributes:
        episode: with the robot's number within its actor.
        success: the simulator's ground truth at each observation, for audits alone.
    """

    episode: Episode
    success: Bool[Array, "obs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """Every episode of the oldest open order has ended.

    Attributes:
        control: how well the robots have kept their control rate since they were made; None where
            no clock paces them.
    """

    control: ClockSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The actor cannot go on and has ended.

    Attributes:
        sentence: what was seen.
        is_robot: the robot failed, and may work again once it is made anew.
    """

    sentence: str
    is_robot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """The actor has ended without a word.

    Attributes:
        sentence: what was seen from outside.
    """

    sentence: str


Message: TypeAlias = Ready | Beat | EpisodeEnded | Paused | Failed | Died


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeQuestion:
    """What do the vision encoders make of these images?

    Attributes:
        robots: numbers in the whole fleet, a row each.
        observation: with its images.
        instructions: a row each.
        at_start: of an episode: what came before is forgotten.
    """

    robots: Int64[Array, "rows"]
    observation: Observation
    instructions: Sequence[str]
    at_start: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideQuestion:
    """Is the episode done, and what comes next?

    Attributes:
        robots: numbers in the whole fleet, a row each.
        observation: encoded.
        instructions: a row each.
        starting: seeds of episodes of which this is the first observation, by robot.
    """

    robots: Int64[Array, "rows"]
    observation: EncodedObservation
    instructions: Sequence[str]
    starting: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The answer to a `DecideQuestion`, a row each."""

    termination: Termination
    decision: Decision


Question: TypeAlias = EncodeQuestion | DecideQuestion
Answer: TypeAlias = EncodedObservation | Decided
Ask: TypeAlias = Callable[[Question], Answer]
"""Puts a question to the server and waits for its answer; raises EnvError where none comes."""


@runtime_checkable
class ActorPool(Protocol):
    """Starts actors and carries their messages; knows nothing of faults or episodes."""

    @property
    def num_actors(self) -> int:
        """Count the actors, running or not."""
        ...

    def start(self, actor: int) -> None:
        """Start an actor, at once or after its end; it says when it is ready."""
        ...

    def share(self, weights: Weights) -> object:
        """Return weights in the form in which `send` takes them, made once for all actors."""
        ...

    def send(self, actor: int, order: Order, shared_weights: object) -> None:
        """Give an actor an order, behind those it has, without waiting for it.

        If it has died, `receive` reports it.
        """
        ...

    def receive(self, timeout_s: float) -> Iterable[tuple[int, Message]]:
        """Yield what actors have said, each by its number, as soon as one says anything.

        Nothing of an actor that is stopped meanwhile.
        """
        ...

    def stop(self, actor: int) -> None:
        """End an actor at once; what it has said before and nobody received is lost."""
        ...

    def close(self) -> None:
        """End all actors."""
        ...
