"""Robots that name themselves: one connection a name, and a session that outlives it.

A robot names itself where it connects: `ws://HOST:PORT/?robot=left-arm`. If its connection breaks,
it gets its session back under the same name: its random stream, its instruction, and what was
remembered of its frames. A connection that breaks without a word looks alive for a while; so the
server asks it (a ping) before it believes that two robots have one name.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from nearer.core.errors import MessageError
from nearer.serving.session import RobotSession

ROBOT = "robot"  # of the query
_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
_PING_S = 1.0


class _Connected(NamedTuple):
    connection: ServerConnection
    session: RobotSession


class _Left(NamedTuple):
    at_s: float
    session: RobotSession


def name_in(path: str) -> str | None:
    """Return the name that a robot gives itself in the path of its request; None: it gives none.

    Raises:
        MessageError: it is none; in few words, since it is the reason of a closed connection.
    """
    names = parse_qs(urlsplit(path).query, keep_blank_values=True).get(ROBOT)
    if names is None:
        return None
    if len(names) > 1 or not _NAME.fullmatch(names[0]):
        raise MessageError(f"?{ROBOT}= must be one name of 1 to 40 letters, digits, '.', '_', '-'")
    return names[0]


class NamedSessions:
    """Sessions of robots with names, connected or lately gone.

    Not thread-safe: used by the event loop alone.

    Args:
        keep_s: seconds that a session is kept after its robot left.
        max_kept: sessions that are kept at most; the one that left first is dropped.
        clock_s: tells the time, in seconds.
    """

    def __init__(
        self, keep_s: float, max_kept: int, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._keep_s, self._max_kept, self._clock_s = keep_s, max_kept, clock_s
        self._connected: dict[str, _Connected] = {}
        self._left: dict[str, _Left] = {}

    async def claim(self, name: str, connection: ServerConnection) -> RobotSession | None:
        """Give a name to a connection; return the session that the robot had, None if it had none.

        A session that is returned is the connection's from now on; a new one follows by `hold`.

        Raises:
            MessageError: a robot of this name is connected, and answers.
        """
        taken = MessageError(f"{ROBOT} {name} is connected already; choose another name")
        before = self._connected.get(name)
        if before and await _answers(before.connection):
            raise taken
        now = self._connected.get(name)
        if now and now is not before:  # another one came first, while the ping was under way
            raise taken
        if now:
            now.connection.transport.abort()
            session = now.session
        else:
            session = self._kept(name)
        if session:
            self.hold(name, connection, session)
        return session

    def hold(self, name: str, connection: ServerConnection, session: RobotSession) -> None:
        """Note which connection and session a name has."""
        self._connected[name] = _Connected(connection, session)

    def release(self, name: str, connection: ServerConnection) -> None:
        """Keep the session of a robot whose connection has ended, unless it has another one."""
        now = self._connected.get(name)
        if now and now.connection is connection:
            del self._connected[name]
            self._left[name] = _Left(self._clock_s(), now.session)
            self._drop_old()

    def _kept(self, name: str) -> RobotSession | None:
        self._drop_old()
        left = self._left.pop(name, None)
        return left.session if left else None

    def _drop_old(self) -> None:
        oldest_s = self._clock_s() - self._keep_s
        recent = [(name, left) for name, left in self._left.items() if left.at_s > oldest_s]
        self._left = dict(recent[-self._max_kept :])


async def _answers(connection: ServerConnection) -> bool:
    """Tell whether the other side of a connection is still there."""
    try:
        async with asyncio.timeout(_PING_S):
            await (await connection.ping())
    except (TimeoutError, ConnectionClosed):
        return False
    return True
