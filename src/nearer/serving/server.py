"""Connections: each is one robot, and all take turns at one model.

    client --msgpack--> connection (event loop) --turn--> one thread: unpack, infer, pack
           <--msgpack--                          <-------

One thread runs the models, one message after the other in the order they came; requests are not
batched, so that a response has the same bits whoever else is connected (docs/serving.md has the
measurement). A connection has one message at work and at most one waiting; the rest stays in the
network until there is room. A message whose turn does not come in time, or whose answer takes too
long, is answered by a sentence, so that no robot waits longer than `Limits.answer_s`; nothing is
computed any more for a robot that is gone.
"""

import asyncio
import hmac
import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from time import perf_counter

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from nearer.core.errors import ConfigError, MessageError, NearerError
from nearer.serving.echo import Echo, read_echo
from nearer.serving.msgpack_codec import pack, unpack
from nearer.serving.named_sessions import NamedSessions, name_in
from nearer.serving.session import RobotSession, ServedPolicy

_HEALTH = "/healthz"
_OPEN_TIMEOUT_S = 10
# RFC 6455, section 7.4.1, and its registry
_TOO_MANY, _INTERNAL, _REFUSED, _NORMAL = 1013, 1011, 1008, 1000
_MAX_FRAGMENTS = 4096  # of a message; each costs memory, also if it is empty
_LOG = logging.getLogger("nearer.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what untrusted or faulty clients can ask for.

    Attributes:
        message_bytes: of one message.
        rate_hz: messages a second of one connection; faster ones wait.
        robots: connections at a time.
        idle_s: seconds without a message, after which a connection is closed.
        answer_s: seconds in which a message is answered, if only by a sentence.
        reconnect_s: seconds in which a named robot finds its session again after it left.
    """

    message_bytes: int
    rate_hz: float
    robots: int
    idle_s: float
    answer_s: float
    reconnect_s: float


class PolicyServer:
    """A policy that serves robots over websockets until it is stopped.

    Args:
        policy: responds to requests.
        limits: of connections and messages.
        token: what every client must send; None: nothing.
    """

    def __init__(self, policy: ServedPolicy, limits: Limits, token: str | None) -> None:
        self._policy = policy
        self._limits = limits
        self._token = token
        self._numbers = count()
        self._connected: set[ServerConnection] = set()
        self._named = NamedSessions(limits.reconnect_s, limits.robots)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    def run(self, host: str, port: int, ready: Callable[[int], None]) -> None:
        """Serve until `stop`, or until Ctrl-C in the main thread.

        Args:
            host: address to listen on.
            port: TCP port; 0: any free one.
            ready: called with the port, once clients can connect.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        try:
            asyncio.run(self._run(host, port, ready))
        finally:
            self._model_thread.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Let `run` return, from any thread; connections are closed with code 1001, going away."""
        if self._loop is not None and self._stopped is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)

    async def _run(self, host: str, port: int, ready: Callable[[int], None]) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) != signal.SIG_IGN:  # as a shell's background jobs do
                    self._loop.add_signal_handler(number, self._stopped.set)
        try:
            server = await serve(
                self._connection,
                host,
                port,
                origins=[None],  # no page in a browser: it would reach a loopback server too
                process_request=self._admit,
                compression=None,  # what is sent is what is counted
                max_size=self._limits.message_bytes,
                max_queue=1,
                open_timeout=_OPEN_TIMEOUT_S,
                server_header=None,
            )
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--host and --port must be an address that is free here, got {host}:{port}: "
                f"{error}; choose another port, or 0 for any free one"
            ) from error
        async with server:
            ready(next(iter(server.sockets)).getsockname()[1])
            await self._stopped.wait()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the HTTP response to a request that gets no connection; None accepts it."""
        if request.path == _HEALTH:
            return connection.respond(HTTPStatus.OK, "OK\n")
        if self._token is None:
            return None
        keys = request.headers.get_all("Authorization")
        expected = f"Api-Key {self._token}".encode()
        if len(keys) == 1 and hmac.compare_digest(keys[0].encode(errors="replace"), expected):
            return None
        return connection.respond(
            HTTPStatus.UNAUTHORIZED,
            "the header Authorization must be 'Api-Key TOKEN' with the server's token, got none or "
            "another; pass api_key=TOKEN to the client\n",
        )

    async def _connection(self, connection: ServerConnection) -> None:
        """Serve one robot from its first message to its last."""
        name: str | None = None
        try:
            assert connection.request is not None, "there is no connection without one"
            name = name_in(connection.request.path)
            claimed = await self._named.claim(name, connection) if name else None
            if self._is_full():
                most = self._limits.robots
                await connection.close(_TOO_MANY, f"at most {most} robots at a time")
                return
            self._connected.add(connection)
            session = claimed or self._policy.new_session(next(self._numbers), name)
            if name:
                self._named.hold(name, connection, session)
            metadata = self._policy.metadata(session, resumed=claimed is not None)
            await connection.send(pack(metadata.to_message()))
            await self._serve_requests(connection, session)
        except ConnectionClosed:
            pass  # a robot may leave at any time
        except MessageError as error:
            await connection.close(_REFUSED, str(error))
        except Exception:
            _LOG.exception("a request could not be served")
            await connection.close(_INTERNAL, "the server failed; its log says why")
        finally:
            self._connected.discard(connection)
            if name:
                self._named.release(name, connection)

    def _is_full(self) -> bool:
        """Tell whether there are as many robots as may be; one that was replaced is none."""
        there = [each for each in self._connected if not each.transport.is_closing()]
        return len(there) >= self._limits.robots

    async def _serve_requests(self, connection: ServerConnection, session: RobotSession) -> None:
        loop = asyncio.get_running_loop()
        next_turn = loop.time()
        previous_ms: float | None = None
        gone = asyncio.ensure_future(connection.wait_closed())
        while True:
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    message = await _received(connection)
            except TimeoutError:
                await connection.close(_NORMAL, f"no message for {self._limits.idle_s:g} s")
                return
            except MessageError as error:
                await connection.send(str(error))
                continue
            received_s = perf_counter()
            await asyncio.wait({gone}, timeout=max(0.0, next_turn - loop.time()))
            next_turn = max(next_turn, loop.time()) + 1 / self._limits.rate_hz
            job = self._model_thread.submit(
                self._respond, session, message, received_s, previous_ms
            )
            await connection.send(await self._answer(job, message, gone))
            previous_ms = 1000 * (perf_counter() - received_s)

    async def _answer(
        self, job: "Future[str | bytes]", message: str | bytes, gone: "asyncio.Future[None]"
    ) -> str | bytes:
        """Return the answer of the model's thread, or a sentence instead.

        Args:
            job: the answer, when it is there; dropped after `answer_s`, or when the robot is gone.
            message: what is answered.
            gone: done when the connection has ended.
        """
        answer = asyncio.wrap_future(job)
        await asyncio.wait(
            {answer, gone},
            timeout=self._limits.answer_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if answer.done():
            return answer.result()
        if job.cancel():
            why = "others were before it and nothing was computed; ask again"
        else:
            why = "the models still work on it, and what they find will not be sent; ask again"
            job.add_done_callback(_log_failure)
        answer.cancel()
        return _echo_in(message).before(
            f"an answer must come within {self._limits.answer_s:g} s, got none: {why}, or start "
            "nearer serve with a larger --answer-s"
        )

    def _respond(
        self,
        session: RobotSession,
        message: str | bytes,
        received_s: float,
        previous_ms: float | None,
    ) -> str | bytes:
        """Return a response as bytes, or an error as text; runs in the model's thread."""
        started_s = perf_counter()
        echo = Echo()
        try:
            if isinstance(message, str):
                raise MessageError(
                    "a message must be msgpack in a binary frame, got text; use openpi_client's "
                    "WebsocketClientPolicy"
                )
            request = unpack(message)
            echo = read_echo(request)
            response = self._policy.respond(session, request)
        except NearerError as error:  # the robot reads it, and stays connected
            return echo.before(str(error))
        timing = {
            "infer_ms": 1000 * (perf_counter() - started_s),
            "wait_ms": 1000 * (started_s - received_s),
        }
        if previous_ms is not None:
            timing["prev_total_ms"] = previous_ms
        return pack(response.to_message() | echo.to_message() | {"server_timing": timing})


async def _received(connection: ServerConnection) -> str | bytes:
    """Return the next message.

    Raises:
        MessageError: it came in too many fragments.
    """
    text: list[str] = []
    data: list[bytes] = []
    number = 0
    async for fragment in connection.recv_streaming():
        number += 1
        if number > _MAX_FRAGMENTS:
            continue  # to the end of the message, keeping nothing
        if isinstance(fragment, str):
            text.append(fragment)
        else:
            data.append(fragment)
    if number > _MAX_FRAGMENTS:
        raise MessageError(
            f"a message must come in at most {_MAX_FRAGMENTS} fragments, got {number}; send it "
            "whole"
        )
    return "".join(text) if text else b"".join(data)


def _echo_in(message: str | bytes) -> Echo:
    """Return the marks of a message that was not answered; none if it cannot be read."""
    try:
        return Echo() if isinstance(message, str) else read_echo(unpack(message))
    except MessageError:
        return Echo()


def _log_failure(job: "Future[str | bytes]") -> None:
    """Log what went wrong in a request whose answer nobody waits for."""
    if error := job.exception():
        _LOG.error("a request could not be served", exc_info=error)
