"""Robots that can be watched and stopped: their newest state as files, a person's orders obeyed.

    fleet = LiveFleet(fleet, live)                  images, steps; holds robots that are stopped
    rule = LiveTermination(rule, live, threshold)   predictions; ends episodes that a person ends

Writing is the business of a thread, a few times a second and only while somebody watches. A robot
that is stopped takes no further action: its next control step waits. Robots that move in lockstep
wait together, so one that is stopped holds those of its process.
"""

import io
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image

from nearer.core.arrays import Array
from nearer.core.control_clock import ControlClock
from nearer.core.episode import EncodedObservation, Ended, Observation, StepsToGoPrediction
from nearer.core.errors import EnvError, NearerError
from nearer.core.interfaces import Fleet, Sensed, Starts, Termination, TerminationRule
from nearer.fleets.wrapper import FleetWrapper
from nearer.runs.live import (
    CURVE,
    LiveRobot,
    OrderReader,
    RobotState,
    forget_live,
    is_watched,
    write_live,
)

_LOG = logging.getLogger(__name__)
_WRITES_S = 0.2
_HELD_S = 0.002  # between two reads of the orders while a robot is held
_IDLE_S = 5.0  # after so long without a step a robot waits, for what the policy learns
_JPEG_QUALITY = 80


@dataclass(slots=True, kw_only=True)
class _Slot:
    """What is remembered of a robot between two writes."""

    state: RobotState = "waiting"
    since_s: float = field(default_factory=time.time)
    instruction: str = ""
    episode: int = 0
    step: int = 0
    steps: int = 0
    detected: int = 0
    means: deque[float] = field(default_factory=lambda: deque(maxlen=CURVE))
    spreads: deque[float] = field(default_factory=lambda: deque(maxlen=CURVE))
    image: Array | None = None
    acted_s: float = 0.0

    def become(self, state: RobotState) -> None:
        if state != self.state:
            self.state, self.since_s = state, time.time()


class LiveRobots:
    """The robots of one process, as a person sees and stops them.

    Args:
        run: folder of the run.
        first_robot: number of the first of them in the whole fleet.
        num_robots: in this process.
        unit: of steps-to-go, such as chunks.
        writes_s: seconds between two writes.
    """

    def __init__(
        self,
        run: Path,
        first_robot: int,
        num_robots: int,
        unit: str = "steps",
        writes_s: float = _WRITES_S,
    ) -> None:
        self._run = run
        self._first = first_robot
        self._unit = unit
        self._slots = [_Slot() for _ in range(num_robots)]
        self._orders = OrderReader(run)
        self._started_s = time.time()
        self._threshold: float | None = None
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._written: dict[int, LiveRobot] = {}
        self._failed = False
        self._closed = threading.Event()
        self._writes_s = writes_s
        self._writer = threading.Thread(target=self._write_now_and_then, daemon=True)
        forget_live(run, range(first_robot, first_robot + num_robots))
        self._writer.start()

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
        done: Bool[Array, "robots"],
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
                if done[row]:
                    slot.detected += 1
                    slot.become("waiting")

    def hold(self, robots: Int64[Array, "robots"], waiting: Callable[[], None]) -> bool:
        """Return once none of these robots is stopped, and whether one was.

        Args:
            robots: that want to act.
            waiting: is called now and then meanwhile.
        """
        numbers: list[int] = (robots + self._first).tolist()
        held = False
        while not self._closed.is_set():
            orders = self._orders.latest()
            stopped = [number for number in numbers if orders.stop(number)]
            if not stopped:
                break
            if not held:
                _LOG.warning(
                    "robots are stopped by a person: %s; nearer watch %s lets them go on",
                    ", ".join(map(str, stopped)),
                    self._run,
                )
            held = True
            with self._lock:
                for number in stopped:
                    self._slots[number - self._first].become("stopped")
            waiting()
            time.sleep(_HELD_S)
        return held

    def faulty(self, robots: Int64[Array, "robots"]) -> None:
        """Note that these robots have failed, and write it: their process may end now."""
        with self._lock:
            for robot in robots.tolist():
                self._slots[robot].become("faulty")
        self._write_if_watched()

    def ended_by_person(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Return whose episode a person wants to end."""
        orders = self._orders.latest().ends
        if not orders:
            return np.zeros(len(robots), dtype=bool)
        ends = {(end.robot, end.episode) for end in orders if end.at_s >= self._started_s}
        rows: list[int] = robots.tolist()
        wanted = [(row + self._first, self._slots[row].episode) in ends for row in rows]
        return np.array(wanted, dtype=bool)

    def close(self) -> None:
        """End the thread; it writes a last time if somebody watches."""
        self._closed.set()
        self._writer.join()

    def _note_images(
        self, robots: Int64[Array, "robots"], observation: Observation | EncodedObservation
    ) -> None:
        if isinstance(observation, EncodedObservation):
            observation = observation.observation
        images = next(iter(observation.images.values()), None)
        for row, robot in enumerate(robots.tolist()):
            self._slots[robot].image = None if images is None else images[row]

    def _write_now_and_then(self) -> None:
        last = False
        while not last:
            last = self._closed.wait(self._writes_s)
            self._write_if_watched()

    def _write_if_watched(self) -> None:
        if not is_watched(self._run):
            return
        with self._writing:
            try:
                for row, slot in enumerate(self._slots):
                    self._write(row, slot)
            except NearerError as error:  # practice goes on without being seen
                if not self._failed:
                    _LOG.warning("robots cannot be watched: %s", error)
                self._failed = True

    def _write(self, row: int, slot: _Slot) -> None:
        with self._lock:
            robot, image = self._state(row, slot), slot.image
        before = self._written.get(row)
        if before and replace(before, written_s=robot.written_s) == robot:
            return
        write_live(self._run, robot, None if image is None else _jpeg(image))
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
            detected=slot.detected,
            steps=slot.steps,
        )


class LiveFleet(FleetWrapper):
    """A fleet whose robots are watched and stopped by a person.

    Args:
        fleet: robots, their images not encoded; each step is a control step.
        live: what a person sees.
        clock: that paces the robots; a hold is no delay of it.
    """

    def __init__(self, fleet: Fleet, live: LiveRobots, clock: ControlClock | None = None) -> None:
        super().__init__(fleet)
        self.live = live
        self._clock = clock
        self.while_held: Callable[[], None] = _nothing
        """Called now and then while robots are held."""

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots."""
        self._hold(robots)
        self.live.resetting(robots)
        with self._faults_shown(robots):
            starts = super().reset(robots, seeds)
        self.live.began(robots, starts)
        return starts

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step the fleet's robots, as soon as none of them is stopped."""
        self._hold(robots)
        with self._faults_shown(robots):
            sensed = super().step(robots, actions)
        self.live.stepped(robots, sensed)
        return sensed

    def close(self) -> None:
        """Close the fleet."""
        self.live.close()
        super().close()

    @contextmanager
    def _faults_shown(self, robots: Int64[Array, "robots"]) -> Generator[None]:
        try:
            yield
        except EnvError:
            self.live.faulty(robots)
            raise

    def _hold(self, robots: Int64[Array, "robots"]) -> None:
        if self.live.hold(robots, self.while_held) and self._clock:
            self._clock.start()


class LiveTermination:
    """A termination rule whose predictions are shown, and beside which a person ends episodes.

    Args:
        rule: the detector.
        live: what a person sees.
        threshold: s of the detector, in decisions.
    """

    def __init__(self, rule: TerminationRule, live: LiveRobots, threshold: float) -> None:
        self._rule = rule
        self._live = live
        self._threshold = threshold

    @property
    def ended_as(self) -> Ended:
        """Return how the rule's episodes end."""
        return self._rule.ended_as

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Return what the rule says, and whose episode a person ends."""
        found = self._rule.check(observation, instructions, robots)
        by_person = self._live.ended_by_person(robots) & ~found.done
        self._live.predicted(robots, found.prediction, found.done, self._threshold)
        return replace(found, by_person=by_person)


def _jpeg(image: UInt8[Array, "h w c"]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def _nothing() -> None:
    """Do nothing."""
