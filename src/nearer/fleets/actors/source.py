"""Episodes of robots that act in several processes, whatever becomes of some of them.

The learner orders decisions by one version of the policy, shared evenly among the actors. Each
finishes every episode that it has started, and the learner waits for all: every episode of an order
is by the version that was ordered. The same version on as many actors gives the same episodes, bit
for bit, whatever their pace, as long as no robot fails.

A faulty actor is ended and started again after a rest that doubles with each fault in a row; after
several it is left alone. Its unfinished episodes are dropped, counted and reported; what it had
left to do is done by those that have finished, about an episode a robot at a time.

With a staleness of 1 the actors go on while the learner updates: beside the samples of an
iteration, those of the next are ordered, by the same weights, which are one update old when these
are learned from.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool

from nearer.algorithm.model import ModelPolicy
from nearer.core.arrays import Array
from nearer.core.control_clock import ClockSummary
from nearer.core.episode import Episode
from nearer.core.errors import NearerError
from nearer.core.interfaces import Policy
from nearer.core.spaces import Spaces
from nearer.fleets.actors.actor import trained_weights
from nearer.fleets.actors.control_log import ControlLog
from nearer.fleets.actors.faults import Fault, FaultKind, FaultLog, FaultPlan, now
from nearer.fleets.actors.messages import (
    ActorPool,
    Beat,
    Died,
    EpisodeEnded,
    Failed,
    Message,
    Order,
    Paused,
    Ready,
)

_POLL_S = 1.0


@dataclass(slots=True)
class _OpenOrder:
    """An order that an actor has not finished.

    Attributes:
        order: as it was given.
        decisions: of the episodes that have ended.
    """

    order: Order
    decisions: int = 0

    @property
    def left(self) -> int:
        return max(0, self.order.enough_steps - self.decisions)


@dataclass(slots=True)
class _ActorState:
    """What the learner knows of an actor.

    Attributes:
        status: starting, ready for orders, resting after a fault, or alone for the rest of the run.
        since: when it last gave a sign of life, was started, or has rested enough (monotonic, s).
        orders: not finished, the oldest first.
        parts: orders so far, by iteration.
        resetting: its robots are being reset.
        in_flight: episodes that have started and not ended.
        faults_in_a_row: since its last episode.
    """

    status: Literal["starting", "ready", "resting", "alone"] = "starting"
    since: float = field(default_factory=time.monotonic)
    orders: deque[_OpenOrder] = field(default_factory=deque[_OpenOrder])
    parts: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    resetting: bool = False
    in_flight: int = 0
    faults_in_a_row: int = 0


@dataclass(slots=True)
class _Iteration:
    """What is collected for one iteration.

    Attributes:
        version: of the weights that act.
        shared_weights: of that version.
        unassigned: decisions that wait for an actor with nothing to do.
        ended: episodes that have not been yielded, by actor.
        seeds: of the episodes so far: none counts twice.
    """

    version: int
    shared_weights: object
    ended: list[list[EpisodeEnded]]
    unassigned: int = 0
    seeds: set[int] = field(default_factory=set[int])


class ActorSource:
    """Episodes of robots in several processes; see `nearer.algorithm.rollout.EpisodeSource`.

    Args:
        pool: starts the actors and carries messages.
        plan: when an actor counts as faulty.
        faults: receives faults.
        control: receives how well actors keep their control rate.
        max_staleness: 1: robots practise during updates, by weights one update old; 0: they pause.

    Raises:
        NearerError: the robots cannot be made.
    """

    def __init__(
        self,
        pool: ActorPool,
        plan: FaultPlan | None = None,
        faults: FaultLog | None = None,
        control: ControlLog | None = None,
        max_staleness: int = 0,
    ) -> None:
        self._pool = pool
        self._plan = plan or FaultPlan()
        self._faults = faults or FaultLog()
        self._control = control
        self._clocks: dict[int, ClockSummary] = {}
        self._max_staleness = max_staleness
        self._success: dict[int, Array] = {}
        self._num_episodes = self._num_decisions = 0
        self._iterations: dict[int, _Iteration] = {}
        self._actors = [_ActorState() for _ in range(pool.num_actors)]
        try:
            ready = self._start_all()
        except NearerError:
            self.close()
            raise
        self._spaces = ready[0].spaces
        ends = np.cumsum([actor.num_robots for actor in ready]).tolist()
        self._first_robots = [0, *ends]
        self._num_robots: int = ends[-1]

    @property
    def num_robots(self) -> int:
        """Count the robots of all actors."""
        return self._num_robots

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and decisions."""
        return self._spaces

    def episodes(self, policy: Policy, version: int, enough_steps: int) -> Iterator[Episode]:
        """Yield the episodes for one iteration of Stage 2 as they end.

        Raises:
            NearerError: no robot is left, or something failed that is no robot.
        """
        assert isinstance(policy, ModelPolicy), "only a model's weights can be sent"
        shared_weights = self._pool.share(trained_weights(policy.model))
        for iteration in range(version, version + 1 + self._max_staleness):
            if iteration not in self._iterations:
                ended: list[list[EpisodeEnded]] = [[] for _ in self._actors]
                self._iterations[iteration] = _Iteration(version, shared_weights, ended)
                self._assign(iteration, enough_steps)
        while self._is_open(version):
            yield from self._in_order(version)
            for actor, message in self._pool.receive(self._patience_s()):
                self._note(actor, message)
            self._look_after_faulty()
            self._assign_rest()
        yield from self._in_order(version)
        del self._iterations[version]
        for state in self._actors:
            state.parts.pop(version, None)
        if self._control is not None and self._clocks:
            self._control.report(version, self._clocks.values())

    def success(self, episode: Episode) -> Bool[Array, "obs"]:
        """Return at which observations of an episode its instruction was done, for audits."""
        return self._success[episode.seed]

    def forget(self) -> None:
        """Drop the ground truth of the episodes that have been yielded."""
        self._success.clear()

    def close(self) -> None:
        """End the actors."""
        self._pool.close()

    def _start_all(self) -> list[Ready]:
        """Start all actors, and return what they say when they are ready."""
        for actor in range(len(self._actors)):
            self._pool.start(actor)
        ready: dict[int, Ready] = {}
        must_by = time.monotonic() + self._plan.start_s
        while len(ready) < len(self._actors):
            if time.monotonic() > must_by:
                raise NearerError(
                    f"all {len(self._actors)} actors of the fleet must be ready within "
                    f"{self._plan.start_s:g} s, got word of {len(ready)}; check what their envs "
                    "wait for, or choose --fleet lockstep"
                )
            for actor, message in self._pool.receive(_POLL_S):
                match message:
                    case Ready():
                        ready[actor] = message
                        self._heard(actor).status = "ready"
                    case Failed() | Died():
                        raise NearerError(message.sentence)
                    case Beat() | EpisodeEnded() | Paused():
                        raise AssertionError(f"an actor that starts must not send {message}")
        return [ready[actor] for actor in range(len(self._actors))]

    def _assign(self, iteration: int, decisions: int) -> None:
        """Share decisions among the actors that are ready."""
        ready = [actor for actor, state in enumerate(self._actors) if state.status == "ready"]
        if not ready:
            self._iterations[iteration].unassigned += decisions
            return
        share = -(-decisions // len(ready))
        for actor in ready:
            self._order(actor, iteration, share)

    def _assign_rest(self) -> None:
        """Give what nobody does to actors with nothing to do: at least an episode a robot.

        Smaller parts would be whole episodes all the same, and more of them than were asked for.
        """
        working = sum(state.status != "alone" for state in self._actors)
        for iteration, collected in self._iterations.items():
            for actor, state in enumerate(self._actors):
                if collected.unassigned and state.status == "ready" and not state.orders:
                    part = max(-(-collected.unassigned // working), self._mean_decisions(actor))
                    part = min(part, collected.unassigned)
                    collected.unassigned -= part
                    self._order(actor, iteration, part)

    def _mean_decisions(self, actor: int) -> int:
        """Return how many decisions an episode of each of an actor's robots takes, on average."""
        robots = self._first_robots[actor + 1] - self._first_robots[actor]
        return round(robots * self._num_decisions / max(1, self._num_episodes))

    def _order(self, actor: int, iteration: int, decisions: int) -> None:
        state, collected = self._actors[actor], self._iterations[iteration]
        part = state.parts[iteration]
        state.parts[iteration] += 1
        order = Order(
            iteration=iteration, part=part, version=collected.version, enough_steps=decisions
        )
        if not state.orders:
            state.since = time.monotonic()
            # As many as may have started, until the actor says how many have.
            state.in_flight = self._first_robots[actor + 1] - self._first_robots[actor]
        state.orders.append(_OpenOrder(order))
        self._pool.send(actor, order, collected.shared_weights)

    def _is_open(self, iteration: int) -> bool:
        return self._iterations[iteration].unassigned > 0 or any(
            self._acts_for(actor, iteration) for actor in range(len(self._actors))
        )

    def _acts_for(self, actor: int, iteration: int) -> bool:
        return any(open_.order.iteration == iteration for open_ in self._actors[actor].orders)

    def _in_order(self, iteration: int) -> Iterator[Episode]:
        """Yield episodes in the order of the actors, whatever their pace.

        Minibatches depend on it.
        """
        for actor, ended in enumerate(self._iterations[iteration].ended):
            for message in ended:
                episode = message.episode
                self._success[episode.seed] = message.success
                yield replace(episode, robot=self._first_robots[actor] + episode.robot)
            ended.clear()
            if self._acts_for(actor, iteration):
                return

    def _heard(self, actor: int) -> _ActorState:
        state = self._actors[actor]
        state.since = time.monotonic()
        return state

    def _note(self, actor: int, message: Message) -> None:
        state = self._heard(actor)
        match message:
            case Ready():
                state.status = "ready"
            case Beat():
                state.resetting, state.in_flight = message.resetting, message.in_flight
            case EpisodeEnded():
                self._keep(actor, message)
            case Paused():
                state.orders.popleft()
                state.in_flight = state.in_flight if state.orders else 0
                if message.control is not None:
                    self._clocks[actor] = message.control
            case Failed():
                if not message.is_robot:
                    raise NearerError(message.sentence)
                self._fault(actor, "raised", message.sentence)
            case Died():
                self._fault(actor, "died", message.sentence)

    def _keep(self, actor: int, message: EpisodeEnded) -> None:
        state = self._actors[actor]
        self._num_episodes += 1
        self._num_decisions += message.episode.num_steps
        open_ = state.orders[0]
        open_.decisions += message.episode.num_steps
        state.in_flight = max(0, state.in_flight - 1)
        state.faults_in_a_row = 0
        collected = self._iterations[open_.order.iteration]
        if message.episode.seed not in collected.seeds:
            collected.seeds.add(message.episode.seed)
            collected.ended[actor].append(message)

    def _patience_s(self) -> float:
        """Return how long nothing can have to be done unless an actor says something."""
        rested = [state.since for state in self._actors if state.status == "resting"]
        return max(0.0, min([_POLL_S, *(since - time.monotonic() for since in rested)]))

    def _look_after_faulty(self) -> None:
        """Start actors that have rested, and end those that gave no sign of life in time."""
        for actor, state in enumerate(self._actors):
            waited = time.monotonic() - state.since
            if state.status == "resting" and waited >= 0:
                state.status = "starting"
                state.since = time.monotonic()
                self._pool.start(actor)
            elif state.status == "starting" and waited > self._plan.start_s:
                self._fault(actor, "hung", f"it was not ready within {self._plan.start_s:g} s")
            elif state.status == "ready" and state.orders:
                limit = self._plan.reset_s if state.resetting else self._plan.step_s
                if waited > limit:
                    what = "a reset" if state.resetting else "a step"
                    self._fault(actor, "hung", f"{what} took more than {limit:g} s")

    def _fault(self, actor: int, kind: FaultKind, sentence: str) -> None:
        """End a faulty actor, let it rest or leave it alone, and give its work to others."""
        self._pool.stop(actor)
        state = self._actors[actor]
        left = [(open_.order.iteration, open_.left) for open_ in state.orders]
        dropped = state.in_flight
        state.orders.clear()
        state.in_flight, state.resetting = 0, False
        state.faults_in_a_row += 1
        rest_s = None
        state.status = "alone"
        if state.faults_in_a_row <= self._plan.most_in_a_row:
            rest_s = self._plan.wait_s(state.faults_in_a_row)
            state.status, state.since = "resting", time.monotonic() + rest_s
        robots = tuple(range(self._first_robots[actor], self._first_robots[actor + 1]))
        fault = Fault(
            time=now(),
            actor=actor,
            robots=robots,
            kind=kind,
            sentence=sentence,
            iteration=left[0][0] if left else None,
            dropped_episodes=dropped,
            again_in_s=rest_s,
        )
        self._faults.report(fault)
        if all(other.status == "alone" for other in self._actors):
            raise NearerError(
                f"a robot of the fleet must work, got {self._plan.most_in_a_row + 1} faults in a "
                f"row of every one, the last: {sentence}; mend them, and continue with --resume"
            )
        for iteration, decisions in left:
            self._iterations[iteration].unassigned += decisions
