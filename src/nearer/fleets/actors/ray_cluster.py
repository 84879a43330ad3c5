"""Actors on a Ray cluster, each placed where a node offers a robot.

Ray starts, places and ends actors and carries what they say; the weights of a version go into its
object store once, from where every actor reads them. When an actor is started again is decided by
`ActorSource`, as for processes.
"""

import asyncio
import os
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from nearer.core.errors import ConfigError, EnvError, NearerError
from nearer.fleets.actors.actor import Actor, MakeGroup, failure
from nearer.fleets.actors.live_relay import LiveRelay
from nearer.fleets.actors.messages import (
    Answer,
    Ask,
    Died,
    Failed,
    Message,
    Order,
    Paused,
    Question,
    Ready,
    Weights,
)
from nearer.fleets.actors.served_models import MakeModels

RESOURCE = "robot"
"""The custom resource of a node that has robots; an actor takes one of it."""
_END_S = 5.0
_START_S, _LOAD_S = 300.0, 60.0
"""The first includes importing torch and making the models."""
_QUESTIONS_AT_ONCE = 10_000


class RayPool:
    """Actors on a Ray cluster; see `nearer.fleets.actors.messages.ActorPool`.

    Args:
        make_groups: each makes the robots of one actor, there, given what asks the server of the
            models, or None where there is no server; must be picklable.
        seed: of starts and actions.
        address: of the cluster, "auto" for the one that this machine belongs to; None: the cluster
            that this process is connected to, or else one that is started on this machine and ends
            with the pool.
        make_models: makes what is served to all actors by one of Ray's; None: each has its own
            copies.
        run: folder of the run, which robots elsewhere are shown and stopped through; None: the
            groups take no `link`.

    Raises:
        ConfigError: Ray is not installed.
        NearerError: there is no such cluster, or it has too few robots.
    """

    def __init__(
        self,
        make_groups: Sequence[MakeGroup],
        seed: int,
        address: str | None = None,
        make_models: MakeModels | None = None,
        run: Path | None = None,
    ) -> None:
        self._make_groups = make_groups
        self._seed = seed
        self._ray = _ray()
        self._actors: dict[int, Any] = {}
        self._streams: dict[int, list[Any]] = {}
        self._was_connected = cast(bool, self._ray.is_initialized())
        if not self._was_connected:
            self._connect(address)
        self._check_robots()
        self._models = _RayModels(self._ray, make_models) if make_models else None
        self._relay = LiveRelay(self._ray, run) if run else None

    @property
    def num_actors(self) -> int:
        """Count the actors, running or not."""
        return len(self._make_groups)

    def handle(self, actor: int) -> Any:
        """Return Ray's handle of an actor."""
        return self._actors[actor]

    def start(self, actor: int) -> None:
        """Start an actor; it says when it is ready."""
        place = self._ray.remote(_RayActor).options(
            num_cpus=0, resources={RESOURCE: 1}, max_restarts=0
        )
        models = self._models.alive() if self._models else None
        make_group = self._make_groups[actor]
        if self._relay is not None:
            make_group = cast(MakeGroup, partial(cast(Any, make_group), link=self._relay.link))
        self._actors[actor] = place.remote(make_group, models, self._seed, actor)
        self._streams[actor] = [_stream(self._actors[actor].make)]

    def share(self, weights: Weights) -> object:
        """Return where the weights are in the object store; or load them into the server."""
        if self._models is None:
            return self._ray.put(weights)
        self._models.load(weights)
        return {}

    def send(self, actor: int, order: Order, shared_weights: object) -> None:
        """Give an actor an order, behind those it has."""
        stream = _stream(self._actors[actor].obey, order, shared_weights)
        self._streams[actor].append(stream)

    def receive(self, timeout_s: float) -> list[tuple[int, Message]]:
        """Return what actors have said, at most one message each."""
        oldest = {streams[0]: actor for actor, streams in self._streams.items() if streams}
        if not oldest:  # all rest after faults
            time.sleep(timeout_s)
            return []
        ready, _ = self._ray.wait(list(oldest), num_returns=1, timeout=timeout_s)
        if ready:  # of the others, those that have said something too
            ready, _ = self._ray.wait(list(oldest), num_returns=len(oldest), timeout=0)
        messages = [(oldest[stream], self._next(oldest[stream], stream)) for stream in ready]
        return [(actor, message) for actor, message in messages if message is not None]

    def stop(self, actor: int) -> None:
        """End an actor at once."""
        self._streams.pop(actor, None)
        running = self._actors.pop(actor, None)
        if running is not None:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(running)

    def close(self) -> None:
        """End all actors, after their envs have been closed if they do so soon."""
        closing = [running.close.remote() for running in self._actors.values()]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=_END_S)
        for actor in list(self._actors):
            self.stop(actor)
        if self._models is not None:
            self._models.close()
        if self._relay is not None:
            self._relay.close()
        self._disconnect()

    def _connect(self, address: str | None) -> None:
        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": True}
        if address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would ask the internet
            os.environ.setdefault("RAY_worker_niceness", "0")  # robots would yield to other work
            robots = {RESOURCE: self.num_actors}
            self._ray.init("local", resources=robots, include_dashboard=False, **quiet)
            return
        try:
            self._ray.init(address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise NearerError(
                f"--fleet.address must be that of a Ray cluster, or auto on one of its nodes, got "
                f"{address}: {error}; start one with ray start --head"
            ) from error

    def _disconnect(self) -> None:
        if not self._was_connected:
            self._ray.shutdown()

    def _check_robots(self) -> None:
        offered = int(self._ray.cluster_resources().get(RESOURCE, 0))
        if offered < self.num_actors:
            self._disconnect()
            raise NearerError(
                f"the cluster must have {self.num_actors} robots, got {offered} of the resource "
                f"{RESOURCE!r} from all its nodes; start those that have robots with "
                f"ray start --resources '{{\"{RESOURCE}\": N}}', or lower --fleet.robots"
            )

    def _next(self, actor: int, stream: Any) -> Message | None:
        """Return the next message of an actor's oldest stream; None at the stream's end."""
        try:
            # A copy, since Ray's arrays are views of its object store and may not be written to.
            return deepcopy(cast(Message, self._ray.get(next(stream))))
        except StopIteration:
            self._streams[actor].pop(0)
            return None
        except self._ray.exceptions.RayError as error:
            self._streams[actor].clear()
            return Died(sentence=f"Ray says of its actor: {_first_line(error)}")


class _RayActor:
    """An actor in a process of the cluster.

    Its robots are made and moved by one thread, as graphics and some drivers need it, while another
    passes on what it says.
    """

    def __init__(self, make_group: MakeGroup, models: Any, seed: int, number: int) -> None:
        self._arguments = make_group, seed, number
        self._models = models
        self._said: SimpleQueue[Message] = SimpleQueue()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._actor: Actor | None = None

    def make(self) -> Generator[Message, None, None]:
        """Make the robots, and yield what is said until they are ready."""
        self._thread.submit(self._or_failure, self._make)
        yield from self._until(Ready)

    def obey(self, order: Order, weights: Weights) -> Generator[Message, None, None]:
        """Act by an order, and yield what is said until it is done."""
        assert self._actor is not None, "an actor gets orders once it is ready"
        actor = self._actor
        self._thread.submit(self._or_failure, lambda: actor.obey(order, weights))
        yield from self._until(Paused)

    def close(self) -> None:
        """Release the robots."""
        if self._actor is not None:
            self._thread.submit(self._actor.close).result()

    def _make(self) -> None:
        make_group, seed, number = self._arguments
        ask = _ask_through(self._models) if self._models is not None else None
        self._actor = Actor(make_group, ask, seed, number, self._said.put)

    def _or_failure(self, act: Callable[[], None]) -> None:
        try:
            act()
        except NearerError as error:
            self._said.put(failure(error))
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
            self._said.put(Died(sentence=f"its process ended with {said}"))
            raise

    def _until(self, last: type[Message]) -> Generator[Message, None, None]:
        while True:
            message = self._said.get()
            yield message
            if isinstance(message, (last, Failed, Died)):
                return


class _RayModels:
    """The learner's side of the server of the models; makes it anew when it has died."""

    def __init__(self, ray: Any, make_models: MakeModels) -> None:
        self._ray = ray
        self._make_models = make_models
        self._server: Any = None
        self._weights: Weights = {}

    def alive(self) -> Any:
        """Return Ray's handle of a server that lives and has the weights.

        Raises:
            NearerError: one that was just started has died, or hangs.
        """
        if self._server is None:
            self._start()
        if not self._done("load", self._weights, limit_s=_LOAD_S):
            self._start()
            if not self._done("load", self._weights, limit_s=_LOAD_S):
                raise self._error(f"load weights within {_LOAD_S:.0f} s, two in a row died or hang")
        return self._server

    def _start(self) -> None:
        free_gpus = int(self._ray.available_resources().get("GPU", 0))
        place = self._ray.remote(_ModelServer).options(
            num_cpus=0, num_gpus=min(1, free_gpus), max_concurrency=_QUESTIONS_AT_ONCE
        )
        self._server = place.remote(self._make_models)
        if not self._done("is_ready", limit_s=_START_S):
            raise self._error(f"be ready within {_START_S:.0f} s, it has died or hangs")

    def _done(self, method: str, *arguments: object, limit_s: float) -> bool:
        """Tell whether the server has done something; one that hangs is killed."""
        try:
            self._ray.get(getattr(self._server, method).remote(*arguments), timeout=limit_s)
        except self._ray.exceptions.RayActorError:  # it has died
            return False
        except self._ray.exceptions.GetTimeoutError:
            self._ray.kill(self._server)
            return False
        return True

    @staticmethod
    def _error(what: str) -> NearerError:
        return NearerError(
            f"the server of the models must {what}; its last words are in Ray's logs of its node"
        )

    def load(self, weights: Weights) -> None:
        """Let all decisions be by these weights from now on."""
        self._weights = weights
        self.alive()

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._ray.kill(self._server)


class _ModelServer:
    """Answers the questions that have come while it was busy as one batch."""

    def __init__(self, make_models: MakeModels) -> None:
        self._models = make_models()
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []

    async def is_ready(self) -> None:
        """Return once the models are made."""

    async def load(self, weights: Weights) -> None:
        """Load weights; no actor asks meanwhile."""
        self._models.load(weights)

    async def answer(self, question: Question) -> Answer:
        """Return the answer to a question."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((deepcopy(question), answered))  # torch wants to own what it reads
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._answer_all)
        return await answered

    def _answer_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            answers = self._models.answer([question for question, _ in waiting])
        except Exception as error:  # each actor that has asked raises it
            for _, answered in waiting:
                answered.set_exception(error)
            return
        for (_, answered), answer in zip(waiting, answers, strict=True):
            answered.set_result(answer)


def _ask_through(server: Any) -> Ask:
    """Return what puts a question to the server of the models."""
    ray = _ray()

    def ask(question: Question) -> Answer:
        try:
            return cast(Answer, ray.get(server.answer.remote(question)))
        except ray.exceptions.RayActorError as error:
            raise EnvError(
                f"the server of the models must answer, got: {_first_line(error)}"
            ) from error
        except ray.exceptions.RayTaskError as error:
            raise NearerError(_first_line(error.cause)) from error

    return ask


def _stream(method: Any, *arguments: object) -> Any:
    return method.options(num_returns="streaming").remote(*arguments)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "--fleet ray must find Ray, which is not installed; pip install 'nearer[ray]', or "
            "choose --fleet processes"
        ) from error
