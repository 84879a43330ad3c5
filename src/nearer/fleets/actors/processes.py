"""Actors in processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any, cast

from nearer.core.errors import NearerError
from nearer.fleets.actors.actor import Actor, MakeGroup, failure
from nearer.fleets.actors.messages import Died, Message, Order, Weights
from nearer.fleets.actors.model_process import ModelProcess, ask_through

_END_S, _STOP_S = 5.0, 1.0


class ProcessPool:
    """Actors in processes; see `nearer.fleets.actors.messages.ActorPool`.

    Args:
        make_groups: each makes the robots of one process, there, given what asks the server of the
            models, or None where there is no server; must be picklable.
        seed: of starts and actions.
        models: what is served to all actors; None: each has its own copies.
    """

    def __init__(
        self, make_groups: Sequence[MakeGroup], seed: int, models: ModelProcess | None = None
    ) -> None:
        self._make_groups = make_groups
        self._seed = seed
        self._models = models
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["nearer.fleets.actors.processes"])
        self._processes: dict[int, Any] = {}
        self._connections: dict[int, Connection] = {}

    @property
    def num_actors(self) -> int:
        """Count the actors, running or not."""
        return len(self._make_groups)

    def process_id(self, actor: int) -> int:
        """Return the system's number of an actor's process."""
        return cast(int, self._processes[actor].pid)

    def start(self, actor: int) -> None:
        """Start an actor; it says when it is ready."""
        ours, theirs = self._context.Pipe()
        models = self._models.connect() if self._models else None
        arguments = (self._make_groups[actor], self._seed, actor, theirs, models)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        if models is not None:
            models.close()
        self._processes[actor], self._connections[actor] = process, ours

    def share(self, weights: Weights) -> object:
        """Return the weights, for each process to get a copy; or load them into the server."""
        if self._models is None:
            return weights
        self._models.load(weights)
        return {}

    def send(self, actor: int, order: Order, shared_weights: object) -> None:
        """Give an actor an order, behind those it has."""
        with suppress(OSError):  # it has died, which `receive` reports
            self._connections[actor].send((order, shared_weights))

    def receive(self, timeout_s: float) -> list[tuple[int, Message]]:
        """Return what actors have said, at most one message each."""
        actors = {connection: actor for actor, connection in self._connections.items()}
        ready = cast(list[Connection], wait(list(actors), timeout_s))
        return [(actors[connection], self._next(actors[connection])) for connection in ready]

    def stop(self, actor: int) -> None:
        """End an actor at once."""
        connection = self._connections.pop(actor, None)
        if connection is not None:
            connection.close()
            self._processes[actor].terminate()
            self._end(actor, _STOP_S)

    def close(self) -> None:
        """End all actors: each closes its envs, or is killed if it does not."""
        for connection in self._connections.values():
            connection.close()
        for actor in self._connections:
            self._end(actor, _END_S)
        self._connections.clear()
        if self._models is not None:
            self._models.close()

    def _end(self, actor: int, seconds: float) -> None:
        """Wait so long for a process to close its envs, then kill it."""
        self._processes[actor].join(seconds)
        if self._processes[actor].is_alive():
            self._processes[actor].kill()
            self._processes[actor].join(_END_S)

    def _next(self, actor: int) -> Message:
        try:
            return cast(Message, self._connections[actor].recv())
        except (EOFError, OSError):
            self._processes[actor].join(_END_S)
            code = self._processes[actor].exitcode
            return Died(
                sentence=f"its process ended with exit status {code}; its last words are above"
            )


def _work(
    make_group: MakeGroup,
    seed: int,
    number: int,
    connection: Connection,
    models: Connection | None,
) -> None:
    """Act whenever the learner says so, until it closes the connection or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner ends what is in flight
    signal.signal(signal.SIGTERM, _exit)
    threading.Thread(target=_end_with_learner, daemon=True).start()
    said: SimpleQueue[Message | None] = SimpleQueue()
    sender = threading.Thread(target=_send_all, args=(said, connection), daemon=True)
    sender.start()
    try:
        ask = ask_through(models) if models is not None else None
        actor = Actor(make_group, ask, seed, number, said.put)
        try:
            while True:
                order, weights = connection.recv()
                actor.obey(order, weights)
        finally:
            actor.close()
    except (EOFError, OSError):
        pass  # the learner has closed the connection
    except NearerError as error:
        said.put(failure(error))
    said.put(None)
    sender.join()


def _exit(signal_number: int, frame: object) -> None:
    """Leave by way of `finally`, so that envs are closed and robots hold."""
    raise SystemExit(128 + signal_number)


def _send_all(said: "SimpleQueue[Message | None]", connection: Connection) -> None:
    """Send what is said, so that no actor waits for a learner that updates."""
    with suppress(OSError):
        while (message := said.get()) is not None:
            connection.send(message)


def _end_with_learner() -> None:
    """End this process when the learner has died, even in the middle of a step."""
    learner = multiprocessing.parent_process()
    assert learner is not None, "an actor is a child of the learner"
    learner.join()
    os._exit(1)
