"""What the robots of a run say of themselves while they act, and what a person orders them.

    live/robot-003.json, .jpg   newest state and image: written by whoever moves the robot
    live/orders.json            what a person wants: written by the console, read by the robots
    live/stopping               locked by the console until it has written a stop there, for which
                                a busy disk may take half a second; robots hold still meanwhile
    live/watched                touched by a console that is open; meanwhile robots write often,
                                else only at the end

Nobody waits for anybody: files are replaced whole, the newest is all there is, and either side may
be missing. Times are seconds since 1970.
"""

import fcntl
import json
import os
import time
import weakref
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from nearer.core.errors import ConfigError, NearerError
from nearer.runs.files import disk_errors_as_sentences, replace_bytes
from nearer.runs.json_files import read_document, to_json

LIVE = "live"
CURVE = 120
"""Predictions of steps-to-go that a robot's state holds, the newest last."""
UNWATCHED_S = 5.0
"""Robots write what they see no more so long after the last sign of a console."""

RobotState = Literal["practising", "resetting", "waiting", "stopped", "faulty"]
"""waiting: for its next episode, while the policy learns, or for a person, who is asked for
something; stopped: by a person."""
Verdict = Literal["success", "failure", "bad station", "reset"]
"""Why a person ends an episode. reset: the scene must be put in order before the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRobot:
    """The newest state of a robot.

    Attributes:
        robot: its number in the fleet.
        since_s: when this state began.
        written_s: when this was written.
        instruction: of its episode.
        episode: its number since the process started, from 1; 0 before the first.
        step: control steps taken in this episode.
        steps_to_go: d of the episode's latest observations, oldest first.
        unit: of d: steps, or chunks of some.
        spread: standard deviation of each prediction.
        threshold_steps: s of the detector.
        episodes_today, detected_today: episodes that ended since midnight, and those of them that
            the detector ended.
        steps: control steps since the process started.
        policy_version: iterations of Stage 2 that the acting policy has learned from.
        asks: what a person is asked for, a sentence; empty: nothing.
        asked_s: when; names the request.
        refused: why the instruction that people chose is not practised; empty: it is.
        periods: control periods since the process started, of all its robots; 0: no rate is kept.
        missed: of these, those whose deadline had passed before the step was over.
    """

    robot: int
    state: RobotState
    since_s: float
    written_s: float
    instruction: str = ""
    episode: int = 0
    step: int = 0
    steps_to_go: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    unit: str = "steps"
    threshold_steps: float | None = None
    episodes_today: int = 0
    detected_today: int = 0
    steps: int = 0
    policy_version: int = 0
    asks: str = ""
    asked_s: float = 0.0
    refused: str = ""
    periods: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOrder:
    """A person's wish that an episode ends.

    Attributes:
        robot: which acts in it.
        episode: its number; another episode is not meant.
        verdict: why.
        at_s: when it was wished; of processes that started later other episodes have the number.
    """

    robot: int
    episode: int
    verdict: Verdict
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A person says that what a robot asked for is done.

    Attributes:
        robot: that asked.
        asked_s: when; another request is not meant.
    """

    robot: int
    asked_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a person wants now.

    Attributes:
        number: of these orders; each new ones have a higher one.
        stop_all: no robot acts.
        stopped: these robots do not act.
        ends: episodes that are to end.
        done: requests of robots that have been met.
        instructions: one of these is practised an episode; none: the env chooses.
    """

    number: int = 0
    stop_all: bool = False
    stopped: tuple[int, ...] = ()
    ends: tuple[EndOrder, ...] = ()
    done: tuple[Done, ...] = ()
    instructions: tuple[str, ...] = ()

    def stop(self, robot: int) -> bool:
        """Tell whether a robot is to stand still."""
        return self.stop_all or robot in self.stopped


class StopSignal:
    """Lets robots know that a stop is being written, without waiting for the disk.

    It is an OS lock (flock): taking it changes no file. The system frees it when the console ends.

    Args:
        run: folder of the run.

    Raises:
        NearerError: the disk does not take the file.
    """

    def __init__(self, run: Path) -> None:
        path = _stopping_path(run)
        with disk_errors_as_sentences(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o644)
        weakref.finalize(self, os.close, self._descriptor)

    def give(self) -> None:
        """Let robots hold still."""
        with suppress(OSError):  # a disk without locks: the order itself stops them
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def take_back(self) -> None:
        """Let them do what is ordered."""
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


class OrderReader:
    """Reads the orders whenever they have changed: asking the files takes microseconds."""

    def __init__(self, run: Path) -> None:
        self._path = orders_path(run)
        self._stopping = _stopping_path(run)
        self._seen: tuple[int, int] | None = None
        self._orders = Orders()

    def is_stop_coming(self) -> bool:
        """Tell whether a stop is being written: see `StopSignal`."""
        try:
            descriptor = os.open(self._stopping, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # no console was ever open
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a disk without locks
            return False
        finally:
            os.close(descriptor)
        return False

    def latest(self) -> Orders:
        """Return the newest orders; those before, where the file cannot be read."""
        try:
            status = os.stat(self._path)
        except OSError:  # nobody has ordered anything yet
            return self._orders
        version = status.st_mtime_ns, status.st_ino
        if version != self._seen:
            try:
                self._orders = read_document(Orders, self._path, "remove it")
            except ConfigError:  # no robot may fail by a file of the console
                return self._orders
            self._seen = version
        return self._orders


def _stopping_path(run: Path) -> Path:
    return run / LIVE / "stopping"


def orders_path(run: Path) -> Path:
    """Return the file of a run's orders."""
    return run / LIVE / "orders.json"


def give_orders(run: Path, orders: Orders) -> None:
    """Write orders; robots read them before their next control step."""
    replace_bytes(orders_path(run), json.dumps(to_json(orders)).encode())


def say_watched(run: Path) -> None:
    """Let robots know that a console is open.

    Raises:
        NearerError: the disk does not take it, or the run's folder is gone.
    """
    path = run / LIVE / "watched"
    with disk_errors_as_sentences(path):
        path.parent.mkdir(exist_ok=True)
        path.touch()


def is_watched(run: Path) -> bool:
    """Tell whether a console has been open within the last seconds."""
    try:
        return time.time() - os.stat(run / LIVE / "watched").st_mtime < UNWATCHED_S
    except OSError:
        return False


def write_live(run: Path, robot: LiveRobot, jpeg: bytes | None) -> None:
    """Replace what there is of a robot; an image of None leaves the last one.

    Raises:
        NearerError: the disk does not take it.
    """
    if jpeg is not None:
        replace_bytes(image_path(run, robot.robot), jpeg)
    replace_bytes(_state_path(run, robot.robot), json.dumps(to_json(robot)).encode())


def read_live(run: Path) -> list[LiveRobot]:
    """Return the newest state of every robot, in their order; damaged files are left out."""
    robots: list[LiveRobot] = []
    for path in sorted((run / LIVE).glob("robot-*.json")):
        try:
            robots.append(read_document(LiveRobot, path, "remove it"))
        except ConfigError:
            continue
    return robots


def image_path(run: Path, robot: int) -> Path:
    """Return the file of a robot's newest image, a JPEG."""
    return run / LIVE / f"robot-{robot:03d}.jpg"


def start_live(run: Path, robots: Collection[int]) -> list[LiveRobot]:
    """Forget what an earlier process left of these robots, but for their counts of today.

    Returns:
        Those that have such counts; they wait.
    """
    now_s = time.time()
    kept = [
        LiveRobot(
            robot=before.robot,
            state="waiting",
            since_s=now_s,
            written_s=now_s,
            episodes_today=before.episodes_today,
            detected_today=before.detected_today,
        )
        for before in read_live(run)
        if before.robot in robots
        and before.episodes_today
        and _day(before.written_s) == _day(now_s)
    ]
    for path in (run / LIVE).glob("robot-*"):  # robots may be any number, files are few
        number = path.stem.removeprefix("robot-")
        if number.isdecimal() and int(number) in robots:
            path.unlink(missing_ok=True)
    for robot in kept:
        with suppress(NearerError):  # no robot may fail by a file of the console
            write_live(run, robot, None)
    return kept


def _day(at_s: float) -> date:
    return datetime.fromtimestamp(at_s).date()


def _state_path(run: Path, robot: int) -> Path:
    return run / LIVE / f"robot-{robot:03d}.json"
