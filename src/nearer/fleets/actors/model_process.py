"""The process of this machine that serves the models to all actors."""

import multiprocessing
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from nearer.core.errors import EnvError, NearerError
from nearer.fleets.actors.messages import Answer, Ask, Question, Weights
from nearer.fleets.actors.served_models import MakeModels, ServedModels

_LOAD_S, _CONNECT_S, _END_S = 300.0, 60.0, 5.0
"""The first includes making the models, the second answering those who ask already."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What the learner asked for is done."""


@dataclass(frozen=True, slots=True)
class _Refused:
    sentence: str


class ModelProcess:
    """The learner's side of the process that serves the models.

    Starts it anew when it has died, or hangs.

    Args:
        make_models: makes them, in the process; must be picklable.
    """

    def __init__(self, make_models: MakeModels) -> None:
        self._make_models = make_models
        self._context = multiprocessing.get_context("forkserver")
        self._process: Any = None
        self._connection: Connection | None = None
        self._weights: Weights | None = None

    @property
    def process_id(self) -> int:
        """Return the system's number of the process."""
        return cast(int, self._process.pid)

    def load(self, weights: Weights) -> None:
        """Let all decisions be by these weights from now on.

        Raises:
            NearerError: the models cannot be made, or the process has died twice.
        """
        self._weights = weights
        self._order(weights, _LOAD_S)

    def connect(self) -> Connection:
        """Return an actor's end of a new connection to the models."""
        ours, theirs = self._context.Pipe()
        self._order(ours, _CONNECT_S)
        return theirs

    def close(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
            self._process.join(_END_S)
            self._process.kill()

    def _order(self, order: Weights | Connection, seconds: float) -> None:
        """Have the process do something; if it does not, start it anew and ask once more."""
        try:
            self._ask(order, seconds)
        except (EOFError, OSError):
            self._start()
            self._ask(order, seconds)

    def _start(self) -> None:
        self.close()
        self._connection, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(self._make_models, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        try:
            self._ask(self._weights or {}, _LOAD_S)
        except (EOFError, OSError) as error:
            raise NearerError(
                "the process that serves the models must live, got its end; its last words are "
                "above"
            ) from error

    def _ask(self, order: Weights | Connection, seconds: float) -> None:
        """Wait until the process has done something; raises EOFError or OSError.

        One that takes longer hangs, maybe in the middle of reading, and is killed.
        """
        if self._connection is None:
            raise EOFError
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            self._connection.send(order)
            answer = self._connection.recv()
        finally:
            timer.cancel()
        if isinstance(answer, _Refused):
            raise NearerError(answer.sentence)


def ask_through(connection: Connection) -> Ask:
    """Return what puts a question through an actor's end of a connection to the models."""

    def ask(question: Question) -> Answer:
        try:
            connection.send(question)
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise EnvError("the server of the models must answer, got its end") from error
        if isinstance(answer, _Refused):
            raise NearerError(answer.sentence)
        return cast(Answer, answer)

    return ask


def _serve(make_models: MakeModels, learner: Connection) -> None:
    """Answer until the learner closes its connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner ends what is in flight
    try:
        models = make_models()
    except NearerError as error:
        learner.send(_Refused(str(error)))
        return
    actors: list[Connection] = []
    with suppress(EOFError, OSError):
        while True:
            ready = cast(list[Connection], wait([learner, *actors]))
            if learner in ready:
                ready.remove(learner)
                _obey(learner, models, actors)
            _answer(ready, models, actors)


def _obey(learner: Connection, models: ServedModels, actors: list[Connection]) -> None:
    order = learner.recv()
    if isinstance(order, Connection):
        actors.append(cast(Connection, order))
    else:
        models.load(order)
    learner.send(_Done())


def _answer(ready: list[Connection], models: ServedModels, actors: list[Connection]) -> None:
    asking: list[Connection] = []
    questions: list[Question] = []
    for actor in ready:
        try:
            questions.append(actor.recv())
            asking.append(actor)
        except (EOFError, OSError):
            actors.remove(actor)  # it has ended
    if not questions:
        return
    answers: list[Answer] | list[_Refused]
    try:
        answers = models.answer(questions)
    except NearerError as error:
        answers = [_Refused(str(error))] * len(questions)
    for actor, answer in zip(asking, answers, strict=True):
        with suppress(OSError):
            actor.send(answer)
