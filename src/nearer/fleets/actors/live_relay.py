"""Robots whose machine does not see the run's folder are shown and stopped, too.

An actor of Ray on the learner's machine reads and writes the folder for them.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

from nearer.core.errors import NearerError
from nearer.fleets.live_link import LiveFolder
from nearer.runs.live import LiveRobot, Orders

_POLL_S = 0.01  # between two reads of the folder, while robots wait for news
_ANSWERS_S = 1.0  # no news is said, too
_LIMIT_S = 10.0
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What robots must know of the console.

    Attributes:
        is_there: the run's folder is.
        is_watched: a console is open.
        is_stop_coming: a stop is being written.
        orders: the newest.
    """

    is_there: bool = True
    is_watched: bool = False
    is_stop_coming: bool = False
    orders: Orders = field(default_factory=Orders)


class LiveRelay:
    """The learner's side: starts what reads and writes the folder, and ends it.

    Args:
        ray: the module, connected to a cluster.
        run: folder of the run, which this machine sees.
    """

    def __init__(self, ray: Any, run: Path) -> None:
        self._ray = ray
        here = ray.get_runtime_context().get_node_id()
        strategies = import_module("ray.util.scheduling_strategies")
        place = ray.remote(_Relay).options(
            num_cpus=0,
            max_concurrency=10_000,
            max_restarts=-1,
            scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(here, soft=False),
        )
        self._relay = place.remote(run.absolute())
        self.link = RelayedFolder(run, self._relay)
        """For robots, wherever they are: it may be pickled."""

    def close(self) -> None:
        """End it."""
        self._ray.kill(self._relay)


class RelayedFolder:
    """A run's folder on the learner's machine; see `nearer.fleets.live_link.LiveLink`.

    News come by a thread, so that asking for orders takes no time. Where the learner's machine
    cannot be reached, the newest orders hold on.
    """

    def __init__(self, run: Path, relay: Any) -> None:
        self.run = run
        self._relay = relay
        self._news = News()
        self._closed = Event()

    def __reduce__(self) -> tuple[type["RelayedFolder"], tuple[Path, Any]]:
        """Be pickled without thread and news."""
        return RelayedFolder, (self.run, self._relay)

    def start(self, robots: Sequence[int]) -> list[LiveRobot]:
        """Forget what an earlier process left, and return the counts of today."""
        kept = cast(list[LiveRobot], self._done("start", robots))
        self._news = cast(News, self._done("news", None))
        Thread(target=self._listen, name="console's news", daemon=True).start()
        return kept

    def is_there(self) -> bool:
        """Tell whether the run's folder is still there."""
        return self._news.is_there

    def is_watched(self) -> bool:
        """Tell whether a console is open."""
        return self._news.is_watched

    def is_stop_coming(self) -> bool:
        """Tell whether a stop is being written."""
        return self._news.is_stop_coming

    def orders(self) -> Orders:
        """Return the newest orders."""
        return self._news.orders

    def write(self, robot: LiveRobot, jpeg: bytes | None) -> None:
        """Replace what there is of a robot."""
        self._done("write", robot, jpeg)

    def write_clip(self, iteration: int, seed: int, jpeg: bytes) -> None:
        """Write the clip of an episode."""
        self._done("write_clip", iteration, seed, jpeg)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                self._news = cast(News, self._done("news", self._news))
            except NearerError:  # the machine is away; it may come back
                self._closed.wait(_AGAIN_S)

    def _done(self, method: str, *arguments: object) -> object:
        ray: Any = import_module("ray")
        try:
            return ray.get(getattr(self._relay, method).remote(*arguments), timeout=_LIMIT_S)
        except ray.exceptions.RayError as error:
            said = str(getattr(error, "cause", None) or error).strip().partition("\n")[0]
            raise NearerError(
                f"the console of {self.run} must be reached through Ray, got: {said}"
            ) from error


class _Relay:
    """Reads and writes the folder for robots elsewhere."""

    def __init__(self, run: Path) -> None:
        self._folder = LiveFolder(run)

    async def start(self, robots: Sequence[int]) -> list[LiveRobot]:
        """Forget what an earlier process left, and return the counts of today."""
        return self._folder.start(robots)

    async def news(self, known: News | None) -> News:
        """Return the news as soon as it is another than is known, or after a while."""
        until = time.monotonic() + _ANSWERS_S
        while True:
            news = News(
                is_there=self._folder.is_there(),
                is_watched=self._folder.is_watched(),
                is_stop_coming=self._folder.is_stop_coming(),
                orders=self._folder.orders(),
            )
            if news != known or time.monotonic() > until:
                return news
            await asyncio.sleep(_POLL_S)

    async def write(self, robot: LiveRobot, jpeg: bytes | None) -> None:
        """Replace what there is of a robot."""
        await asyncio.to_thread(self._folder.write, robot, jpeg)

    async def write_clip(self, iteration: int, seed: int, jpeg: bytes) -> None:
        """Write the clip of an episode."""
        await asyncio.to_thread(self._folder.write_clip, iteration, seed, jpeg)
