"""Actors in processes of this machine."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, cast

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
        self._running: dict[int, _ActorProcess] = {}
        self._heard: _Heard = SimpleQueue()

    @property
    def num_actors(self) -> int:
        """Count the actors, running or not."""
        return len(self._make_groups)

    def process_id(self, actor: int) -> int:
        """Return the system's number of an actor's process."""
        return cast(int, self._running[actor].process.pid)

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
        self._running[actor] = _ActorProcess(actor, process, ours, self._heard)

    def share(self, weights: Weights) -> object:
        """Return the weights, for each process to get a copy; or load them into the server."""
        if self._models is None:
            return weights
        self._models.load(weights)
        return {}

    def send(self, actor: int, order: Order, shared_weights: object) -> None:
        """Give an actor an order, behind those it has; does not wait until it has read it."""
        self._running[actor].orders.put((order, shared_weights))

    def receive(self, timeout_s: float) -> Iterator[tuple[int, Message]]:
        """Yield what actors have said; not what one said that is stopped meanwhile."""
        try:
            heard = [self._heard.get(timeout=timeout_s)]
        except Empty:
            return
        while not self._heard.empty():
            heard.append(self._heard.get())
        for running, message in heard:
            if self._running.get(running.number) is running:
                yield running.number, message or running.died()

    def stop(self, actor: int) -> None:
        """End an actor at once."""
        running = self._running.pop(actor, None)
        if running is not None:
            running.process.terminate()
            running.end(_STOP_S)

    def close(self) -> None:
        """End all actors: each closes its envs, or is killed if it does not."""
        for running in self._running.values():
            running.orders.put(None)
        must_by = time.monotonic() + _END_S
        for running in self._running.values():
            running.end(max(0.0, must_by - time.monotonic()))
        self._running.clear()
        if self._models is not None:
            self._models.close()


class _ActorProcess:
    """The learner's side of an actor's process.

    Two threads send and receive, so that the learner never waits for a process that hangs in the
    middle of a message.

    Args:
        number: of the actor.
        process: its process.
        connection: the learner's end.
        heard: receives this object with what the process says, and with None when it has ended.
    """

    def __init__(self, number: int, process: Any, connection: Connection, heard: "_Heard") -> None:
        self.number = number
        self.process = process
        self.orders: SimpleQueue[tuple[Order, object] | None] = SimpleQueue()
        self._connection = connection
        self._heard = heard
        self._threads = [
            threading.Thread(target=_send_all, args=(self.orders, connection), daemon=True),
            threading.Thread(target=self._receive_all, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def end(self, seconds: float) -> None:
        """Wait so long for the process to close its envs, then kill it."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(_END_S)
        self.orders.put(None)
        for thread in self._threads:
            thread.join(_END_S)
        self._connection.close()

    def died(self) -> Died:
        """Return what is known of its end."""
        self.process.join(_END_S)
        code = self.process.exitcode
        return Died(sentence=f"its process ended with exit status {code}; its last words are above")

    def _receive_all(self) -> None:
        with suppress(EOFError, OSError):
            while (message := self._connection.recv()) is not None:
                self._heard.put((self, cast(Message, message)))
        self._heard.put((self, None))


_Heard: TypeAlias = SimpleQueue[tuple[_ActorProcess, Message | None]]


def _work(
    make_group: MakeGroup,
    seed: int,
    number: int,
    connection: Connection,
    models: Connection | None,
) -> None:
    """Act whenever the learner says so, until it has no more orders or is gone."""
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
            while (order := connection.recv()) is not None:
                actor.obey(*order)
        finally:
            actor.close()
    except (EOFError, OSError):
        pass  # the learner has ended
    except NearerError as error:
        said.put(failure(error))
    said.put(None)
    sender.join()


def _exit(signal_number: int, frame: object) -> None:
    """Leave by way of `finally`, so that envs are closed and robots hold."""
    raise SystemExit(128 + signal_number)


def _send_all(messages: "SimpleQueue[Any]", connection: Connection) -> None:
    """Send messages up to a None, which ends the other side.

    In a thread: no actor waits for a learner that updates, nor a learner for an actor that acts.
    """
    with suppress(OSError):
        while (message := messages.get()) is not None:
            connection.send(message)
        connection.send(None)


def _end_with_learner() -> None:
    """End this process when the learner has died, even in the middle of a step."""
    learner = multiprocessing.parent_process()
    assert learner is not None, "an actor is a child of the learner"
    learner.join()
    os._exit(1)
