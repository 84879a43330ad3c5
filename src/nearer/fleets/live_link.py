"""How the robots of a process reach the console of their run.

LiveFolder(run)     through files, where the process sees the run's folder
RelayedFolder       through Ray, where it does not (actors/live_relay.py)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from nearer.runs.clips import write_clip
from nearer.runs.live import LiveRobot, OrderReader, Orders, is_watched, start_live, write_live


@runtime_checkable
class LiveLink(Protocol):
    """What robots write for the console and read from it; nothing here waits for a person.

    Whatever is written raises NearerError where it cannot be.
    """

    @property
    def run(self) -> Path:
        """Return the run's folder, for sentences."""
        ...

    def start(self, robots: Sequence[int]) -> list[LiveRobot]:
        """Forget what an earlier process left of these robots, and return their counts of today."""
        ...

    def is_there(self) -> bool:
        """Tell whether the run's folder is still there."""
        ...

    def is_watched(self) -> bool:
        """Tell whether a console is open."""
        ...

    def is_stop_coming(self) -> bool:
        """Tell whether a stop is being written; asked before every control step."""
        ...

    def orders(self) -> Orders:
        """Return the newest orders; asked before every control step."""
        ...

    def write(self, robot: LiveRobot, jpeg: bytes | None) -> None:
        """Replace what there is of a robot; an image of None leaves the last one."""
        ...

    def write_clip(self, iteration: int, seed: int, jpeg: bytes) -> None:
        """Write the clip of an episode."""
        ...

    def close(self) -> None:
        """Let go of the console."""
        ...


class LiveFolder:
    """A run's folder that this process sees; see `LiveLink`."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._orders = OrderReader(run)

    def start(self, robots: Sequence[int]) -> list[LiveRobot]:
        """Forget what an earlier process left, and return the counts of today."""
        return start_live(self.run, robots)

    def is_there(self) -> bool:
        """Tell whether the run's folder is still there."""
        return self.run.is_dir()

    def is_watched(self) -> bool:
        """Tell whether a console is open."""
        return is_watched(self.run)

    def is_stop_coming(self) -> bool:
        """Tell whether a stop is being written."""
        return self._orders.is_stop_coming()

    def orders(self) -> Orders:
        """Return the newest orders."""
        return self._orders.latest()

    def write(self, robot: LiveRobot, jpeg: bytes | None) -> None:
        """Replace what there is of a robot."""
        write_live(self.run, robot, jpeg)

    def write_clip(self, iteration: int, seed: int, jpeg: bytes) -> None:
        """Write the clip of an episode."""
        write_clip(self.run, iteration, seed, jpeg)

    def close(self) -> None:
        """Do nothing: no file is open."""
