"""An actor: robots in lockstep, their copies of the models, and what the learner orders."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32, Int64

from nearer.algorithm.model import FoundationModel
from nearer.algorithm.rollout import rollout
from nearer.core.arrays import Array
from nearer.core.control_clock import ControlClock
from nearer.core.errors import EnvError, NearerError
from nearer.core.interfaces import (
    Fleet,
    Policy,
    RecordedSuccess,
    Sensed,
    Starts,
    TerminationRule,
)
from nearer.core.seeds import Purpose, episode_seeds
from nearer.fleets.actors.messages import (
    Ask,
    Beat,
    EpisodeEnded,
    Failed,
    Message,
    Order,
    Paused,
    Ready,
    Weights,
)
from nearer.fleets.live import LiveFleet
from nearer.fleets.wrapper import FleetWrapper

_BEAT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotGroup:
    """The robots of one actor, and what moves them.

    Attributes:
        policy: this actor's copy of it, or what asks the server that has it.
        load: takes the weights of the version that is to act.
        fleet: robots, their observations encoded where the policy has a vision encoder.
        termination: ends episodes.
        max_steps: control steps an episode may take.
        recorded: the simulator's ground truth of episodes that have ended, for audits alone.
        clock: that paces the robots; None: they take their own time.
        live: what a person sees and stops of them, if anybody can.
    """

    policy: Policy
    load: Callable[[Weights], None]
    fleet: Fleet
    termination: TerminationRule
    max_steps: int
    recorded: RecordedSuccess
    clock: ControlClock | None = None
    live: LiveFleet | None = None


@runtime_checkable
class MakeGroup(Protocol):
    """Makes the robots of an actor."""

    def __call__(self, *, ask: Ask | None) -> RobotGroup:
        """Return robots that ask this server of the models, or have copies where it is None."""
        ...


class Actor:
    """Acts by orders, in the thread that made it, and says what happens.

    Seeds belong to an actor by its number: the same orders give the same episodes, bit for bit,
    whatever the pace.

    Args:
        make_group: makes the robots.
        ask: the server of the models; None: the actor has its own copies.
        seed: of starts and actions.
        number: of this actor.
        say: takes messages; must not block.

    Raises:
        NearerError: the robots cannot be made.
    """

    def __init__(
        self,
        make_group: MakeGroup,
        ask: Ask | None,
        seed: int,
        number: int,
        say: Callable[[Message], None],
    ) -> None:
        if number:
            logging.disable(logging.WARNING)  # the first actor says it for all
        torch.set_num_threads(1)
        self._group = make_group(ask=ask)
        self._seed = seed
        self._number = number
        self._say = say
        self._pulse = _Pulse(self._group.fleet, say)
        if self._group.live:
            self._group.live.while_held = self._pulse.still_here
        fleet = self._group.fleet
        say(Ready(spaces=fleet.spaces, num_robots=fleet.num_robots))

    def obey(self, order: Order, weights: Weights) -> None:
        """Load these weights, and say each episode as it ends."""
        group = self._group
        group.load(weights)
        for ended in self._act(order):
            self._pulse.in_flight -= 1
            self._say(ended)
        group.recorded.forget()
        self._say(Paused(control=group.clock.summary() if group.clock else None))

    def close(self) -> None:
        """Release the robots."""
        self._group.fleet.close()

    def _act(self, order: Order) -> Iterator[EpisodeEnded]:
        group = self._group
        live = group.live.live if group.live else None
        if live:
            live.begin(order.iteration, order.version)
        keys = self._seed, order.iteration, self._number, order.part
        episodes = rollout(
            self._pulse,
            group.policy,
            group.termination,
            seeds=episode_seeds(Purpose.PRACTICE_ACTORS, *keys),
            max_steps=group.max_steps,
            enough_steps=order.enough_steps,
            policy_version=order.version,
        )
        for episode in episodes:
            if live:
                live.ended(episode)
            yield EpisodeEnded(episode=episode, success=group.recorded.success(episode))


def failure(error: NearerError) -> Failed:
    """Return what an actor says of an error: an env's is its robot's, others concern them all."""
    return Failed(sentence=str(error), is_robot=isinstance(error, EnvError))


def trained_weights(model: FoundationModel) -> Weights:
    """Return the weights that Stage 2 trains; the others are those of Stage 1 everywhere."""
    return {
        name: weight.detach().cpu().numpy().copy()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def load_weights(model: FoundationModel, weights: Weights) -> None:
    """Copy what `trained_weights` returned into another copy of the model."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in weights.items():
            own[name].copy_(torch.tensor(values))


class _Pulse(FleetWrapper):
    """A fleet that gives a sign of life before resets, and between steps now and then."""

    def __init__(self, fleet: Fleet, say: Callable[[Message], None]) -> None:
        super().__init__(fleet)
        self.in_flight = 0
        self._say = say
        self._said_at = time.monotonic()

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        self.in_flight += len(robots)
        self._beat(resetting=True)
        starts = super().reset(robots, seeds)
        self._beat(resetting=False)
        return starts

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        self.still_here()
        return super().step(robots, actions)

    def still_here(self) -> None:
        """Give a sign of life if the last one was some time ago."""
        if time.monotonic() > self._said_at + _BEAT_S:
            self._beat(resetting=False)

    def _beat(self, *, resetting: bool) -> None:
        self._said_at = time.monotonic()
        self._say(Beat(resetting=resetting, in_flight=self.in_flight))
