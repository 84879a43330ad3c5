"""The console's web server: a page, what robots say now, and clicks.

    GET  /                  the page; its files under /page/
    POST /sign-in           a token for a cookie
    GET  /robots            server-sent events: what all robots say, whenever it changes
    GET  /robots/3.jpg      the newest image of robot 3
    GET  /fleet             the whole fleet over time
    GET  /questions         episodes that a person is asked about; their clips under /clips/
    GET  /episodes          what has been practised; one of it and its clip under /episodes/
    POST /clicks            what a person wants (operate)
    GET  /ledger.csv        what people did

A process of its own: it reads and writes files in the run's folder (`nearer.runs.live`), so it may
be closed or killed while robots act. Starlette alone: FastAPI would add a schema to a few routes.
"""

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar, cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from nearer.console.fleet_view import FleetView, OpenQuestions
from nearer.console.orders import Click, OrderDesk
from nearer.console.replay import Replay
from nearer.console.tokens import Role, Tokens, tokens_of
from nearer.core.errors import NearerError
from nearer.runs.clips import clip_path
from nearer.runs.json_files import UnexpectedJson, from_json, to_json
from nearer.runs.ledger import LEDGER, Ledger
from nearer.runs.live import image_path, read_live, say_watched
from nearer.runs.run import is_finished

_Read = TypeVar("_Read")
PAGE = Path(__file__).parent / "page"
_COOKIE = "nearer-console"
_READS_S = 0.2  # between two reads of the robots' files
_SAYS_S = 1.0  # between two signs that somebody watches
_BODY = 16_384  # bytes of a click
_ENTRIES = 30  # of the ledger that the page shows
_RATE = 20  # clicks and sign-ins a second, of all browsers
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class ConsoleServer:
    """The application of one run.

    Args:
        run: its folder.
        hosts: what a browser may call this server: 127.0.0.1:8080, or lab-pc behind a proxy;
            other names may be another site's that point here.
        num_robots: of the run's fleet.

    Raises:
        NearerError: the run's folder does not take the ledger or the tokens.
    """

    def __init__(self, run: Path, hosts: tuple[str, ...], num_robots: int = 1) -> None:
        self._run = run
        self._ledger = Ledger(run / LEDGER)
        self._desk = OrderDesk(run, self._ledger)
        self.tokens: Tokens = tokens_of(run)
        self._num_robots = num_robots
        self._fleet = FleetView(run, num_robots)
        self._questions = OpenQuestions(run)
        self._replay = Replay(run)
        self._recent: deque[float] = deque(maxlen=_RATE)
        self._reading = threading.Lock()
        self._reading_run = threading.Lock()
        self._read_at, self._newest = 0.0, ""
        routes = [
            Route("/", self._page),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/robots", self._robots),
            Route("/robots/{robot:int}.jpg", self._image),
            Route("/fleet", self._of(self._fleet.latest)),
            Route("/questions", self._of(self._questions.latest)),
            Route("/clips/{iteration:int}/{seed:int}.jpg", self._question_clip),
            Route("/episodes", self._of(self._replay.episodes)),
            Route("/episodes/{episode:int}", self._episode),
            Route("/episodes/{episode:int}.jpg", self._episode_clip),
            Route("/clicks", self._click, methods=["POST"]),
            Route("/ledger.csv", self._csv),
            Mount("/page", StaticFiles(directory=PAGE)),
        ]
        self.app = Starlette(routes=routes, middleware=[Middleware(_Guard, hosts=hosts)])

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def _sign_in(self, request: Request) -> Response:
        if self._too_many():
            return _refused(429, "too many requests; wait a second")
        try:
            token = (await _body(request)).decode().strip()
        except ValueError:  # too long, or no text
            token = ""
        role = self.tokens.role(token)
        if role is None:
            return _refused(403, "the token must be one that nearer watch printed; copy it again")
        response = JSONResponse({"role": role})
        response.set_cookie(_COOKIE, token, httponly=True, samesite="strict")
        return response

    async def _robots(self, request: Request) -> Response:
        role = self._role(request)
        if role is None:
            return _refused(401, "sign in with a token of nearer watch")
        return StreamingResponse(self._changes(role), media_type="text/event-stream")

    async def _changes(self, role: Role) -> AsyncIterator[str]:
        """Yield what the page shows, whenever it changes; a slow browser misses what lay between.

        Each yield waits until the browser has taken it.
        """
        shown, said_at = "", 0.0
        while True:
            now = time.monotonic()
            try:
                if not self._run.is_dir():
                    raise NearerError(
                        f"{self._run} must be the folder of a run, got none: it was moved or "
                        "deleted; run nearer watch where it is now"
                    )
                if now > said_at + _SAYS_S:
                    await run_in_threadpool(say_watched, self._run)
                    said_at = now
                newest = f'"state": {await run_in_threadpool(self._state)}'
            except NearerError as error:  # the folder is gone, or its disk is full
                newest = f'"error": {json.dumps(str(error))}'
            if newest != shown:
                shown = newest
                yield f'data: {{"role": "{role}", {newest}}}\n\n'
            await asyncio.sleep(_READS_S)

    def _state(self) -> str:
        """Return what all pages show; files are read once for all that ask at the same time."""
        with self._reading:
            now = time.monotonic()
            if now > self._read_at + _READS_S / 2:
                self._newest = json.dumps(self._read())
                self._read_at = now
            return self._newest

    def _read(self) -> dict[str, object]:
        return {
            "run": self._run.name,
            "finished": is_finished(self._run),
            "num_robots": self._num_robots,
            "robots": [to_json(robot) for robot in read_live(self._run)],
            "orders": to_json(self._desk.orders),
            "ledger": [to_json(entry) for entry in self._ledger.latest(_ENTRIES)],
            "questions": self._count_questions(),
        }

    def _count_questions(self) -> int:
        try:
            return len(self._questions.latest())
        except NearerError:  # the list of questions says it
            return 0

    def _of(self, read: Callable[[], object]) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that answers with what is read now."""

        async def answer(request: Request) -> Response:
            if self._role(request) is None:
                return _refused(401, "sign in with a token of nearer watch")
            try:
                return JSONResponse(await run_in_threadpool(self._alone, read))
            except NearerError as error:
                return _refused(500, str(error))

        return answer

    def _alone(self, read: Callable[[], _Read]) -> _Read:
        """Read one after the other: what is read is kept for whoever asks next."""
        with self._reading_run:
            return read()

    async def _episode(self, request: Request) -> Response:
        number = cast(int, request.path_params["episode"])
        return await self._of(lambda: self._replay.episode(number))(request)

    async def _episode_clip(self, request: Request) -> Response:
        if self._role(request) is None:
            return _refused(401, "sign in with a token of nearer watch")
        number = cast(int, request.path_params["episode"])
        path = await run_in_threadpool(self._alone, lambda: self._replay.clip(number))
        return await _jpeg(path, "this episode was not filmed")

    async def _question_clip(self, request: Request) -> Response:
        if self._role(request) is None:
            return _refused(401, "sign in with a token of nearer watch")
        iteration, seed = (cast(int, request.path_params[name]) for name in ("iteration", "seed"))
        return await _jpeg(clip_path(self._run, iteration, seed), "this episode was not filmed")

    async def _image(self, request: Request) -> Response:
        if self._role(request) is None:
            return _refused(401, "sign in with a token of nearer watch")
        path = image_path(self._run, cast(int, request.path_params["robot"]))
        return await _jpeg(path, "this robot has no image")

    async def _click(self, request: Request) -> Response:
        if self._role(request) != "operate":
            return _refused(403, "only those with the token to operate may do this")
        try:
            click = from_json(Click, json.loads(await _body(request)))
        except (UnexpectedJson, NearerError, ValueError, RecursionError) as error:
            return _refused(400, str(error))
        # A stop must not wait behind other clicks.
        if not click.action.startswith("stop") and self._too_many():
            return _refused(429, "too many requests; wait a second")
        client = request.client.host if request.client else "unknown"
        try:
            is_new = await run_in_threadpool(self._desk.take, click, f"operate@{client}")
        except NearerError as error:
            return _refused(507, str(error))
        return JSONResponse({"new": is_new})

    async def _csv(self, request: Request) -> Response:
        if self._role(request) is None:
            return _refused(401, "sign in with a token of nearer watch")
        text = await run_in_threadpool(self._ledger.csv)
        name = {"Content-Disposition": f'attachment; filename="{LEDGER.split(".")[0]}.csv"'}
        return Response(text, media_type="text/csv", headers=name)

    def _role(self, request: Request) -> Role | None:
        return self.tokens.role(request.cookies.get(_COOKIE, ""))

    def _too_many(self) -> bool:
        now = time.monotonic()
        full = len(self._recent) == _RATE and now - self._recent[0] < 1.0
        if not full:
            self._recent.append(now)
        return full


class _Guard:
    """Refuses other sites, and adds the headers that keep them out.

    A request must be for this server by a name of its own (DNS rebinding), and one that changes
    something must come from its own page.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope)
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        # https: a proxy encrypts the connection.
        from_here = origin in {
            f"{kind}://{name}" for kind in ("http", "https") for name in self._hosts
        }
        refused: Response | None = None
        if host not in self._hosts:
            refused = _refused(421, f"this server is {' or '.join(self._hosts)}, got another name")
        elif request.method not in ("GET", "HEAD") and not from_here:
            refused = _refused(403, "this must come from the console's own page")

        async def send_with_headers(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                headers = cast(list[tuple[bytes, bytes]], message.setdefault("headers", []))
                headers += [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
            await send(message)

        answer: ASGIApp = refused or self._app
        sender = cast(Callable[[object], Awaitable[None]], send_with_headers)
        await answer(scope, receive, cast(Send, sender))


async def _body(request: Request) -> bytes:
    """Return the body of a request; ValueError for one that is too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _BODY:
            raise ValueError(f"a request must have at most {_BODY} bytes")
    return bytes(body)


async def _jpeg(path: Path | None, why_not: str) -> Response:
    """Return an image of the run."""
    try:
        jpeg = await run_in_threadpool(path.read_bytes) if path else None
    except OSError:
        jpeg = None
    return Response(jpeg, media_type="image/jpeg") if jpeg else _refused(404, why_not)


def _refused(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status_code=status)
