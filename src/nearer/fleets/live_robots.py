"""What is known of the robots of one process, as a person sees and orders them.

Writing is the business of a thread, a few times a second and only while somebody watches; at the
end, how many episodes ended today is written for the next process.
"""

import io
import logging
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from nearer.core.arrays import Array
from nearer.core.control_clock import ControlClock
from nearer.core.cpu import give_way
from nearer.core.episode import (
    EncodedObservation,
    Ended,
    Episode,
    Observation,
    StepsToGoPrediction,
)
from nearer.core.errors import NearerError
from nearer.core.interfaces import Sensed, Starts
from nearer.fleets.live_link import LiveLink
from nearer.runs.clips import FilmStrip
from nearer.runs.live import CURVE, LiveRobot, RobotState

_LOG = logging.getLogger(__name__)
_WRITES_S = 0.2
_HELD_S = 0.002  # between two reads of the orders while a robot is held
_IDLE_S = 5.0  # after so long without a step a robot waits, for what the policy learns
_JPEG_QUALITY = 80
_BY_PERSON = "Put the scene in order, and step back."


@dataclass(slots=True, kw_only=True)
class _Slot:
    """What is remembered of a robot between two writes."""

    state: RobotState = "waiting"
    since_s: float = field(default_factory=time.time)
    instruction: str = ""
    episode: int = 0
    step: int = 0
    steps: int = 0
    episodes_today: int = 0
    detected_today: int = 0
    means: deque[float] = field(default_factory=lambda: deque(maxlen=CURVE))
    spreads: deque[float] = field(default_factory=lambda: deque(maxlen=CURVE))
    image: Array | None = None
    acted_s: float = 0.0
    asks: str = ""
    asked_s: float = 0.0
    refused: str = ""
    strip: FilmStrip | None = None

    def become(self, state: RobotState) -> None:
        if state != self.state:
            self.state, self.since_s = state, time.time()


class LiveRobots:
    """The robots of one process, as a person sees and orders them.

    Args:
        link: to the console of the run.
        first_robot: number of the first of them in the whole fleet.
        num_robots: in this process.
        unit: of steps-to-go, such as chunks.
        film_every: iterations of Stage 2 of which one is filmed, from the first; 0: none.
        clock: that paces the robots.
        writes_s: seconds between two writes.
    """

    def __init__(
        self,
        link: LiveLink,
        first_robot: int,
        num_robots: int,
        unit: str = "steps",
        film_every: int = 0,
        clock: ControlClock | None = None,
        writes_s: float = _WRITES_S,
    ) -> None:
        self._link = link
        self._first = first_robot
        self._unit = unit
        self._slots = [_Slot() for _ in range(num_robots)]
        self._started_s = time.time()
        self._day = datetime.now().date()
        self._film_every = film_every
        self._clock = clock
        self._iteration = self._version = 0
        self._films: deque[tuple[int, int, FilmStrip]] = deque()
        self._threshold: float | None = None
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._written: dict[int, LiveRobot] = {}
        self._failed = False
        self._closed = threading.Event()
        self._writes_s = writes_s
        self._writer = threading.Thread(target=self._write_now_and_then, daemon=True)
        for robot in link.start(range(first_robot, first_robot + num_robots)):
            slot = self._slots[robot.robot - first_robot]
            slot.episodes_today, slot.detected_today = robot.episodes_today, robot.detected_today
        self._writer.start()

    def begin(self, iteration: int, version: int) -> None:
        """Note what the next episodes are for.

        Args:
            iteration: of Stage 2, counted from 0.
            version: of the policy that acts.
        """
        self._iteration, self._version = iteration, version

    def resetting(self, robots: Int64[Array, "robots"]) -> None:
        """Note that these robots are being reset."""
        with self._lock:
            for robot in robots.tolist():
                self._slots[robot].become("resetting")

    def began(self, robots: Int64[Array, "robots"], starts: Starts) -> None:
        """Note the first observation of new episodes."""
        with self._lock:
            rows: list[int] = robots.tolist()
            for row, robot in enumerate(rows):
                slot = self._slots[robot]
                slot.become("practising")
                slot.instruction = starts.instructions[row]
                slot.episode += 1
                slot.step = 0
                slot.means.clear()
                slot.spreads.clear()
                slot.acted_s = time.time()
                slot.strip = FilmStrip() if self._is_filmed else None
        self._note_images(robots, starts.observation)

    def stepped(self, robots: Int64[Array, "robots"], sensed: Sensed) -> None:
        """Note an observation after a step."""
        with self._lock:
            rows: list[int] = robots.tolist()
            for robot in rows:
                slot = self._slots[robot]
                slot.become("practising")
                slot.step += 1
                slot.steps += 1
                slot.acted_s = time.time()
        self._note_images(robots, sensed.observation)

    def predicted(
        self,
        robots: Int64[Array, "robots"],
        prediction: StepsToGoPrediction | None,
        threshold: float,
    ) -> None:
        """Note what the reward model says of the newest observations."""
        with self._lock:
            self._threshold = threshold
            rows: list[int] = robots.tolist()
            for row, robot in enumerate(rows):
                slot = self._slots[robot]
                if prediction is not None:
                    slot.means.append(float(prediction.mean[row]))
                    slot.spreads.append(float(prediction.std[row]))

    def ended(self, episode: Episode) -> None:
        """Note an episode that has ended, before the robot's next one begins."""
        with self._lock:
            slot = self._slots[episode.robot]
            slot.become("waiting")
            if (today := datetime.now().date()) != self._day:
                self._day = today
                for other in self._slots:
                    other.episodes_today = other.detected_today = 0
            slot.episodes_today += 1
            slot.detected_today += episode.ended is Ended.SUCCESS_DETECTED
            strip, slot.strip = slot.strip, None
        if strip is not None and strip.frames:
            self._films.append((self._iteration, episode.seed, strip))

    def hold(self, robots: Int64[Array, "robots"], waiting: Callable[[], None]) -> bool:
        """Return once none of these robots is stopped, and whether one was.

        Args:
            robots: that want to act.
            waiting: is called now and then meanwhile.
        """
        numbers: list[int] = (robots + self._first).tolist()
        held = warned = False
        while not self._closed.is_set():
            if not self._link.is_stop_coming():
                orders = self._link.orders()
                stopped = [number for number in numbers if orders.stop(number)]
                if not stopped:
                    break
                if not warned:
                    warned = True
                    _LOG.warning(
                        "robots are stopped by a person: %s; nearer watch %s lets them go on",
                        ", ".join(map(str, stopped)),
                        self._link.run,
                    )
                with self._lock:
                    for number in stopped:
                        self._slots[number - self._first].become("stopped")
            held = True
            waiting()
            time.sleep(_HELD_S)
        return held

    def faulty(self, robots: Int64[Array, "robots"]) -> None:
        """Note that these robots have failed, and write it: their process may end now."""
        with self._lock:
            for robot in robots.tolist():
                self._slots[robot].become("faulty")
        self._write_news()

    def ended_by_person(self, robots: Int64[Array, "robots"]) -> list[Ended | None]:
        """Return how a person ends these robots' episodes; None: they go on."""
        orders = self._link.orders().ends
        if not orders:
            return [None] * len(robots)
        verdicts = {
            (end.robot, end.episode): end.verdict for end in orders if end.at_s >= self._started_s
        }
        ends: list[Ended | None] = []
        rows: list[int] = robots.tolist()
        for row in rows:
            verdict = verdicts.get((row + self._first, self._slots[row].episode))
            how = Ended.FAULT if verdict == "bad station" else Ended.OPERATOR
            ends.append(how if verdict else None)
        return ends

    def reset_wanted(self, robots: Int64[Array, "robots"]) -> Int64[Array, "wanted"]:
        """Return which of these robots' last episode a person ended to put the scene in order."""
        wanted = {
            (end.robot, end.episode)
            for end in self._link.orders().ends
            if end.verdict == "reset" and end.at_s >= self._started_s
        }
        rows: list[int] = robots.tolist()
        found = [row for row in rows if (row + self._first, self._slots[row].episode) in wanted]
        return np.array(found, dtype=np.int64)

    def ask(
        self,
        robots: Int64[Array, "robots"],
        waiting: Callable[[], None],
        sentence: str = _BY_PERSON,
    ) -> None:
        """Ask a person for something, and return when they say that it is done.

        They say so at the console, or with a line in the terminal where there is one.

        Args:
            robots: that wait for it.
            waiting: is called now and then meanwhile.
            sentence: or more, to show.
        """
        asked_s = time.time()
        rows: list[int] = robots.tolist()
        numbers = {row + self._first for row in rows}
        with self._lock:
            for row in rows:
                slot = self._slots[row]
                slot.asks, slot.asked_s = sentence, asked_s
                slot.become("waiting")
        _LOG.warning(
            "robot %s waits for a person: %s Say that it is done at nearer watch %s%s",
            *(", ".join(map(str, sorted(numbers))), sentence, self._link.run),
            ", or press Enter here" if _at_terminal() else "",
        )
        while not (self._closed.is_set() or self._is_done(numbers, asked_s) or _line_typed()):
            waiting()
            time.sleep(_HELD_S)
        with self._lock:
            for row in rows:
                self._slots[row].asks = ""

    def chosen(self, robot: int, seed: int) -> str | None:
        """Return what people want a robot's next episode to be about; None: the env chooses."""
        instructions = self._link.orders().instructions
        return instructions[seed % len(instructions)] if instructions else None

    def note_refused(self, robots: Int64[Array, "robots"], why: str) -> None:
        """Note why robots do not practise what people chose; empty: they do."""
        for robot in robots.tolist():
            self._slots[robot].refused = why

    def _is_done(self, robots: set[int], asked_s: float) -> bool:
        return any(
            done.robot in robots and done.asked_s == asked_s for done in self._link.orders().done
        )

    @property
    def _is_filmed(self) -> bool:
        return self._film_every > 0 and self._iteration % self._film_every == 0

    def close(self) -> None:
        """End the thread; it writes a last time, images only if somebody watches."""
        self._closed.set()
        self._writer.join()
        self._link.close()

    def _note_images(
        self, robots: Int64[Array, "robots"], observation: Observation | EncodedObservation
    ) -> None:
        if isinstance(observation, EncodedObservation):
            observation = observation.observation
        images = next(iter(observation.images.values()), None)
        rows: list[int] = robots.tolist()
        for row, robot in enumerate(rows):
            slot = self._slots[robot]
            slot.image = None if images is None else images[row]
            if slot.strip is not None and slot.image is not None:
                slot.strip.add(slot.image)

    def _write_now_and_then(self) -> None:
        give_way()
        last = False
        while not last:
            last = self._closed.wait(self._writes_s)
            if self._link.is_there():  # one that was deleted stays so
                self._write_films()
                self._write_news(last=last)

    def _write_films(self) -> None:
        while self._films:
            iteration, seed, strip = self._films.popleft()
            try:
                self._link.write_clip(iteration, seed, strip.jpeg())
            except NearerError as error:
                self._say_unwritten(error)

    def _write_news(self, *, last: bool = False) -> None:
        watched = self._link.is_watched()
        with self._writing:
            try:
                for row, slot in enumerate(self._slots):
                    if watched or (last and slot.episodes_today):
                        self._write(row, slot, seen=watched)
                if not watched:  # whoever comes is shown everything
                    self._written.clear()
            except NearerError as error:
                self._say_unwritten(error)

    def _say_unwritten(self, error: NearerError) -> None:
        """Say once that practice goes on without being seen."""
        if not self._failed:
            _LOG.warning("robots cannot be watched: %s", error)
        self._failed = True

    def _write(self, row: int, slot: _Slot, *, seen: bool) -> None:
        with self._lock:
            robot, image = self._state(row, slot), slot.image if seen else None
        before = self._written.get(row)
        if before and replace(before, written_s=robot.written_s) == robot:
            return
        self._link.write(robot, None if image is None else _jpeg(image))
        self._written[row] = robot

    def _state(self, row: int, slot: _Slot) -> LiveRobot:
        if slot.state == "practising" and time.time() - slot.acted_s > _IDLE_S:
            slot.become("waiting")
        return LiveRobot(
            robot=row + self._first,
            state=slot.state,
            since_s=slot.since_s,
            written_s=time.time(),
            instruction=slot.instruction,
            episode=slot.episode,
            step=slot.step,
            steps_to_go=tuple(slot.means),
            spread=tuple(slot.spreads),
            unit=self._unit,
            threshold_steps=self._threshold,
            episodes_today=slot.episodes_today,
            detected_today=slot.detected_today,
            steps=slot.steps,
            policy_version=self._version,
            asks=slot.asks,
            asked_s=slot.asked_s,
            refused=slot.refused,
            periods=self._clock.periods if self._clock else 0,
            missed=self._clock.missed if self._clock else 0,
        )


def _jpeg(image: UInt8[Array, "h w c"]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def _at_terminal() -> bool:
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def _line_typed() -> bool:
    """Tell whether somebody has typed a line in the terminal of this process."""
    if not (_at_terminal() and select.select([sys.stdin], [], [], 0)[0]):
        return False
    return bool(sys.stdin.readline())
