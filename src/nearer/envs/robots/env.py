"""A robot as a Gymnasium env: paced, limited, watched, and reset by a script or by a person.

A control step sends one command, waits for the end of the control period, and observes:

    step(action) -> limit -> command -> wait -> observe
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Float64

from nearer.core.arrays import Array
from nearer.core.asking import Ask, ask_person
from nearer.core.control_clock import ClockSummary, ControlClock
from nearer.core.errors import ConfigError, EnvError, Interrupted, NearerError
from nearer.envs.gymnasium_types import Info, Options, RawObservation
from nearer.envs.robots.driver import RobotDriver
from nearer.envs.robots.motion_limits import ClipCounts, MotionLimiter, MotionLimits
from nearer.envs.robots.resets import check_reset, home_positions, toward
from nearer.envs.robots.safety import CLIPPED, EXECUTED_ACTION, limited_space
from nearer.envs.robots.signals import forget_signals, stop_on_signals
from nearer.envs.robots.watchdog import RobotStopped, Watchdog, WatchdogCounts

HELD = "held"
"""Key of a step's `info`: the watchdog held the robot before this action came."""
STOPPED = "stopped"
"""Key of a step's `info`: why the robot is stopped, such as "operator"; None: it is not."""
LATE = "late"
"""Key of a step's `info`: the step began after its control period had ended."""
RESET_S = "reset_s"
"""Key of a reset's `info`: how long the reset took, seconds."""

_WATCHDOG_PERIODS = 5
_HOME_TOLERANCE = 0.05  # of an axis's range: arms hang down a little
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotSummary:
    """How a robot was driven since it was connected."""

    clock: ClockSummary
    clips: ClipCounts
    watchdog: WatchdogCounts


class RobotEnv(gymnasium.Env[RawObservation, Array]):
    """One robot. It never ends an episode by itself, unless it is stopped, and knows no success.

    `step` gives the keys `executed_action`, `clipped`, `held`, `stopped` and `late` in `info`;
    `reset` gives `reset_s`. A seed does not choose the start: a person or the world does.
    """

    def __init__(
        self,
        driver: RobotDriver,
        limits: MotionLimits,
        *,
        fps: float = 30,
        task: str | None = None,
        reset: str = "person",
        home: Mapping[str, float] | None = None,
        home_speed: float = 0.25,
        watchdog_s: float | None = None,
        ask: Ask | None = None,
        cut: Callable[[], object] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Take over a robot that is connected; it does not move before `reset`.

        Args:
            driver: moves it.
            limits: of its commands.
            fps: control steps a second.
            task: the instruction of every episode; None: --instruction gives it.
            reset: "script": only the home pose; "person": somebody resets the scene and says so.
            home: axis -> position that a reset moves to first, if any.
            home_speed: fraction of `limits.max_velocity` on the way there.
            watchdog_s: the robot is held if no action comes for so long; None: five periods.
            ask: waits for the person; None: at the console or the terminal.
            cut: a second way to stop the robot, such as a relay.
            render_mode: "rgb_array" for the first camera's image.

        Raises:
            ConfigError: settings that cannot work.
        """
        if not 0 < fps < float("inf"):
            raise ConfigError(f"fps must be a positive number, got {fps}; pass the data's rate")
        check_reset(reset, home, home_speed)
        self.control_hz = fps
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps}
        self.render_mode = render_mode
        self.task = task
        self.observation_space = driver.observation_space
        everything = Box(-np.inf, np.inf, (len(limits.axes),), np.float32)
        self.action_space = limited_space(everything, limits)
        self.driver = driver
        self._reset_by = reset
        self._home = None if home is None else home_positions(limits, home)
        self._longest = home_speed * np.array(limits.max_velocity) / fps
        self._ask = ask or ask_person
        self._clock = ControlClock(1 / fps)
        self._limits = limits
        self._limiter = MotionLimiter(limits, 1 / fps)
        self._num_steps: int | None = None  # of the episode; None: there is none
        self._image: Array | None = None
        self._closed = False
        self._watchdog = Watchdog(
            driver.hold,
            deadline_s=_WATCHDOG_PERIODS / fps if watchdog_s is None else watchdog_s,
            period_s=1 / fps,
            cut=cut,
        )
        stop_on_signals(self._watchdog.stop)

    @property
    def stopped(self) -> str | None:
        """Return why the robot is stopped; None: it is not."""
        return self._watchdog.stopped

    def stop(self, reason: str) -> None:
        """Hold the robot within a control period, and end the episode; from any thread."""
        self._watchdog.stop(reason)

    def release(self) -> None:
        """Let a stopped robot move again, from the next reset on; for a person who has looked."""
        self._watchdog.release()

    def summary(self) -> RobotSummary:
        """Return how well the rate was kept, what was clipped, and what the watchdog did."""
        return RobotSummary(
            clock=self._clock.summary(),
            clips=self._limiter.counts(),
            watchdog=self._watchdog.counts(),
        )

    def reset(
        self, *, seed: int | None = None, options: Options = None
    ) -> tuple[RawObservation, Info]:
        """Move home, let a person reset the scene, and observe.

        Raises:
            RobotStopped: it is stopped, and nobody is there to look at it.
            Interrupted: a signal stopped it.
            EnvError: it does not arrive at home, or a call of the robot failed.
        """
        super().reset(seed=seed)
        began_s = time.monotonic()
        self._check_open()
        self._look_after_stop()
        if self._home is not None:
            self._go_home(self._home)
        if self._reset_by == "person":
            task = f" for '{self.task}'" if self.task else ""
            self._ask(f"Reset the scene{task} and step back.")
        self._look_after_stop()
        self._start_from(self._limiter)
        self._num_steps = 0
        observation = self._observe()
        self._clock.start()
        return observation, {RESET_S: time.monotonic() - began_s}

    def step(self, action: Array) -> tuple[RawObservation, float, bool, bool, Info]:
        """Send the nearest command that obeys the limits, and observe when the period ends.

        A robot that is stopped is sent nothing, and the episode is truncated.
        """
        self._check_open()
        if self._num_steps is None:
            raise EnvError("reset must come before step, got a step; call reset")
        info: Info = {HELD: False} if self.stopped else self._act(np.asarray(action, np.float64))
        self._num_steps += 1
        info[LATE] = not self._clock.wait()
        observation = self._observe()
        info[STOPPED] = self.stopped
        return observation, 0.0, False, self.stopped is not None, info

    def render(self) -> Array | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the latest image of the first camera; None: there is none."""
        return self._image if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Hold the robot and disconnect it. Doing it twice is harmless."""
        if self._closed:
            return
        self._closed = True
        forget_signals(self._watchdog.stop)
        self._watchdog.close()
        self.driver.close()

    def _look_after_stop(self) -> None:
        """Let a person look at a robot that was stopped.

        Raises:
            RobotStopped, Interrupted: nobody is there, or the whole program is to end.
        """
        reason = self._watchdog.stopped
        if reason is None:
            return
        if reason.startswith("SIG"):
            raise Interrupted(
                f"stopped by {reason}, the robot is held; what was finished is written, go on with "
                "--resume"
            )
        if self._reset_by == "script":
            raise RobotStopped(
                f"a robot must be released before it moves, got one that {reason} stopped; look at "
                "it, then call release()"
            )
        self._ask(f"The robot was stopped ({reason}). See that it may move.")
        self._watchdog.release()

    def _check_open(self) -> None:
        if self._closed:
            raise EnvError("a robot must be connected to move, got a closed env; make a new one")

    def _start_from(self, limiter: MotionLimiter) -> Float64[Array, "action"]:
        """Let limits begin at rest where the robot is, and return that."""
        positions = self._positions()
        with self._faults("say where it is"):
            limiter.start(positions)
        return positions

    def _go_home(self, home: Float64[Array, "action"]) -> None:
        """Move along a straight line in joint space, and see that the robot arrives.

        Raises:
            RobotStopped, Interrupted: it is stopped on the way.
            EnvError: it does not arrive.
        """
        limiter = MotionLimiter(self._limits, self._clock.period_s)  # the policy is not counted
        target = np.where(self._limits.by_position, self._start_from(limiter), 0)
        self._clock.start()
        while not np.allclose(target, home):
            target = limiter.limit(toward(target, home, self._longest), self._measured()).action
            if not self._send(target):
                self._look_after_stop()
                self._go_home(home)
                return
            self._clock.wait()
        self._check_arrived(home)

    def _check_arrived(self, home: Float64[Array, "action"]) -> None:
        limits = self._limits
        allowed = _HOME_TOLERANCE * (np.array(limits.high) - np.array(limits.low))
        away = np.abs(self._positions() - home)
        for _ in range(round(_SETTLE_S * self.control_hz)):
            if not (away > allowed).any():
                return
            self._clock.wait()
            away = np.abs(self._positions() - home)
        self._watchdog.stop("a fault")
        worst = int(np.nanargmax(away / allowed))
        raise EnvError(
            f"the robot must reach its home pose, got {limits.axes[worst]} {away[worst]:.3g} away "
            "from it; clear its way, or correct home"
        )

    def _act(self, action: Float64[Array, "action"]) -> Info:
        """Send the nearest command that obeys the limits, and return what was done."""
        info: Info = {HELD: bool(self._num_steps) and self._watchdog.holding}
        if info[HELD]:
            self._start_from(self._limiter)
        limited = self._limiter.limit(action, self._measured())
        if self._send(limited.action):
            info |= {EXECUTED_ACTION: limited.action.astype(np.float32), CLIPPED: limited.clipped}
        return info

    def _send(self, action: Float64[Array, "action"]) -> bool:
        """Send a command, and return whether the robot was free to take it."""
        with self._faults("take an action"):
            try:
                with self._watchdog.commanding():
                    self.driver.command(action)
            except RobotStopped:
                return False
        return True

    def _positions(self) -> Float64[Array, "action"]:
        with self._faults("say where it is"), self._watchdog.reading():
            return np.array(self.driver.positions(), np.float64)

    def _measured(self) -> Float64[Array, "action"] | None:
        return self._positions() if self._limits.need_measured else None

    def _observe(self) -> RawObservation:
        """Return copies of what the sensors say."""
        with self._faults("be read"), self._watchdog.reading():
            observed = _copied(self.driver.observe())
            for key in observed.keys() & {"agent_pos", "environment_state"}:
                if not np.isfinite(observed[key]).all():
                    raise EnvError(
                        f"the robot must observe finite numbers, got {observed[key]} in {key}; "
                        "check the sensor and its cable"
                    )
        self._image = _first_image(observed.get("pixels"))
        return observed

    @contextmanager
    def _faults(self, call: str) -> Generator[None, None, None]:
        """Stop the robot when a call of it fails, and say so."""
        try:
            yield
        except NearerError:
            self._watchdog.stop("a fault")
            raise
        except Exception as error:
            self._watchdog.stop("a fault")
            said = f"{type(error).__name__}: {error}".rstrip(": ")
            raise EnvError(
                f"the robot must {call} without an error, got {said}; it is held, check its power "
                "and cables"
            ) from error


def _copied(raw: Mapping[str, object]) -> RawObservation:
    """Return copies of arrays, those of nested dicts too: a driver may use its buffers again."""
    return {
        key: _copied(cast(Mapping[str, object], value))
        if isinstance(value, Mapping)
        else np.array(value)
        for key, value in raw.items()
    }


def _first_image(pixels: Any) -> Array | None:
    return (
        next(iter(cast(dict[str, Array], pixels).values())) if isinstance(pixels, dict) else pixels
    )
