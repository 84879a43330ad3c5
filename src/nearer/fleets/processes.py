"""Robots in processes of their own on this machine, each process at its own pace.

    learner                                      a process of the fleet
    weights and number of a version  --------->  its copy of the policy
    episodes as they end             <---------  rollout of its own robots, in lockstep

Every process holds robots, a copy of the policy and of the frozen reward model, as the actors of
the paper's second infrastructure do, so that rendering, encoding and deciding use as many cores as
there are processes. Each takes its part of the decisions and finishes every episode that it has
started; the learner waits for all. So all episodes of a version are by that version. Seeds and
parts belong to a process by its number: the same version on as many processes gives the same
episodes, bit for bit, whatever their pace.
"""

import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Bool

from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.algorithm.rollout import rollout
from nearer.core.arrays import Array
from nearer.core.episode import Episode
from nearer.core.errors import NearerError
from nearer.core.interfaces import Fleet, Policy, RecordedSuccess, TerminationRule
from nearer.core.seeds import Purpose, episode_seeds
from nearer.core.spaces import Spaces

Weights: TypeAlias = Mapping[str, Array]
"""What Stage 2 trains of a policy, by name."""
_START_S, _END_S = 300.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotGroup:
    """The robots of one process, and what moves them.

    Attributes:
        policy: this process's copy.
        fleet: robots, their observations encoded where the policy has a vision encoder.
        termination: ends episodes.
        max_steps: control steps an episode may take.
        recorded: the simulator's ground truth of episodes that have ended, for audits alone.
    """

    policy: FoundationModel
    fleet: Fleet
    termination: TerminationRule
    max_steps: int
    recorded: RecordedSuccess


@dataclass(frozen=True, slots=True)
class _Ready:
    spaces: Spaces
    num_robots: int


@dataclass(frozen=True, slots=True)
class _Act:
    version: int
    enough_steps: int
    weights: Weights


@dataclass(frozen=True, slots=True)
class _Ended:
    episode: Episode
    success: Bool[Array, "obs"]


@dataclass(frozen=True, slots=True)
class _Paused:
    """Every episode of the version has ended."""


@dataclass(frozen=True, slots=True)
class _Failed:
    sentence: str


class ProcessSource:
    """Episodes of robots in several processes; see `nearer.algorithm.rollout.EpisodeSource`.

    Args:
        make_groups: each makes the robots of one process, there; must be picklable.
        seed: of starts and actions.

    Raises:
        NearerError: the robots cannot be made.
    """

    def __init__(self, make_groups: Sequence[Callable[[], RobotGroup]], seed: int) -> None:
        self._success: dict[int, Array] = {}
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["nearer.fleets.processes"])
        self._workers = [
            _Worker.start(context, make_group, seed, number)
            for number, make_group in enumerate(make_groups)
        ]
        try:
            ready = [worker.wait_ready() for worker in self._workers]
        except NearerError:
            self.close()
            raise
        self._spaces = ready[0].spaces
        ends = np.cumsum([worker.num_robots for worker in ready]).tolist()
        self._first_robots = [0, *ends[:-1]]
        self._num_robots: int = ends[-1]

    @property
    def num_robots(self) -> int:
        """Count the robots of all processes."""
        return self._num_robots

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and decisions."""
        return self._spaces

    @property
    def process_ids(self) -> list[int]:
        """Return the system's numbers of the processes."""
        return [worker.process.pid for worker in self._workers]

    def episodes(self, policy: Policy, version: int, enough_steps: int) -> Iterator[Episode]:
        """Yield the episodes of one policy version as they end."""
        assert isinstance(policy, ModelPolicy), "only a model's weights can be sent"
        part = -(-enough_steps // len(self._workers))
        order = _Act(version, part, trained_weights(policy.model))
        for worker in self._workers:
            worker.send(order)
        # In the order of the processes, whatever their pace: minibatches depend on the order.
        ended: list[list[Episode]] = [[] for _ in self._workers]
        acting = {worker.connection: number for number, worker in enumerate(self._workers)}
        while acting:
            for connection in cast(list[Connection], wait(list(acting))):
                number, message = acting[connection], _receive(connection)
                match message:
                    case _Ended():
                        episode, robot = message.episode, message.episode.robot
                        self._success[episode.seed] = message.success
                        ended[number].append(
                            replace(episode, robot=self._first_robots[number] + robot)
                        )
                    case _Paused():
                        del acting[connection]
                    case _:
                        raise AssertionError(f"a process that acts must not send {message}")
            for number in range(1 + min(acting.values(), default=len(self._workers) - 1)):
                yield from ended[number]
                ended[number].clear()

    def success(self, episode: Episode) -> Bool[Array, "obs"]:
        """Return at which observations of an episode its instruction was done, for audits."""
        return self._success[episode.seed]

    def forget(self) -> None:
        """Drop the ground truth of the episodes so far."""
        self._success.clear()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.join()


def trained_weights(model: FoundationModel) -> Weights:
    """Return the weights that Stage 2 trains; the others are those of Stage 1 everywhere."""
    return {
        name: weight.detach().cpu().numpy()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def load_weights(model: FoundationModel, weights: Weights) -> None:
    """Copy what `trained_weights` returned into another copy of the model."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, values in weights.items():
            own[name].copy_(torch.from_numpy(values))


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process of the fleet, as the learner sees it."""

    process: Any
    connection: Connection

    @classmethod
    def start(
        cls, context: Any, make_group: Callable[[], RobotGroup], seed: int, number: int
    ) -> "_Worker":
        ours, theirs = context.Pipe()
        arguments = (make_group, seed, number, theirs)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def wait_ready(self) -> _Ready:
        if not self.connection.poll(_START_S):
            raise NearerError(
                f"a process of the fleet must be ready within {_START_S:.0f} s, got no word; "
                "check what its env waits for, or choose --fleet lockstep"
            )
        message = _receive(self.connection)
        assert isinstance(message, _Ready)
        return message

    def send(self, order: _Act) -> None:
        try:
            self.connection.send(order)
        except OSError as error:
            raise _died() from error

    def join(self) -> None:
        self.process.join(_END_S)
        if self.process.is_alive():
            self.process.kill()


def _receive(connection: Connection) -> object:
    """Return a message; raise NearerError where the process has failed."""
    try:
        message: object = connection.recv()
    except (EOFError, OSError) as error:
        raise _died() from error
    if isinstance(message, _Failed):
        raise NearerError(message.sentence)
    return message


def _died() -> NearerError:
    return NearerError(
        "a process of the fleet must live as long as practice, got its end; see its last words "
        "above, and continue with --resume"
    )


def _work(
    make_group: Callable[[], RobotGroup], seed: int, number: int, connection: Connection
) -> None:
    """Act whenever the learner says so, until it closes the connection."""
    if number:
        logging.disable(logging.WARNING)  # the first process says it for all
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner ends what is in flight
    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            group = make_group()
            connection.send(_Ready(group.fleet.spaces, group.fleet.num_robots))
            while True:
                order = connection.recv()
                load_weights(group.policy, order.weights)
                seeds = episode_seeds(Purpose.PRACTICE_PROCESSES, seed, order.version, number)
                for message in _act(group, order, seeds):
                    connection.send(message)
        except NearerError as error:
            connection.send(_Failed(str(error)))


def _act(group: RobotGroup, order: _Act, seeds: Iterator[int]) -> Iterator[_Ended | _Paused]:
    episodes = rollout(
        group.fleet,
        ModelPolicy(group.policy),
        group.termination,
        seeds=seeds,
        max_steps=group.max_steps,
        enough_steps=order.enough_steps,
        policy_version=order.version,
    )
    for episode in episodes:
        yield _Ended(episode, group.recorded.success(episode))
    group.recorded.forget()
    yield _Paused()
