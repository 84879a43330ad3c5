"""A wrapper that keeps limits of position, velocity and acceleration in front of a robot.

    env = SafeActions(MyRobot(), motion_limits(["shoulder", "elbow"], {...}, max_velocity=0.5))

It stands on the robot's machine, so it holds whatever policy, learner or network is on the other
side. `RobotEnv` (env.py) has the same limits built in.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Float

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.envs.gymnasium_types import Info, Options, RawObservation
from nearer.envs.robots.motion_limits import ClipCounts, MotionLimiter, MotionLimits

EXECUTED_ACTION = "executed_action"
"""Key of `info`: the action that was sent, float32."""
CLIPPED = "clipped"
"""Key of `info`: what it was changed for, a tuple of `Clip`; empty where it was not."""

PositionsOf = Callable[[Any], Float[Array, "action"]]
"""Reads where the axes of the action are off an observation."""


def agent_positions(observation: Mapping[str, Array]) -> Float[Array, "action"]:
    """Return `agent_pos`: where the axes are, in a robot whose action names targets of all."""
    return np.asarray(observation["agent_pos"], np.float64)


class SafeActions(gymnasium.Wrapper[Any, Array, Any, Array]):
    """Sends an env only commands that obey the limits, and counts what it had to change.

    `info` has `executed_action` and `clipped`. Non-finite actions never reach the env: the robot
    stays where it is. The env must keep its own rate (`ControlClock`): limits are for a command
    a period.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Array],
        limits: MotionLimits,
        *,
        control_hz: float | None = None,
        positions: PositionsOf = agent_positions,
    ) -> None:
        """Wrap an env.

        Args:
            env: whose action has the axes of `limits`.
            limits: of the robot.
            control_hz: commands a second; None: what the env says.
            positions: reads where the axes are off what the env observes.

        Raises:
            ConfigError: the env's actions have other axes, or nobody says the rate.
        """
        super().__init__(env)
        shape = cast(Box, env.action_space).shape
        if shape != (len(limits.axes),):
            raise ConfigError(
                f"limits must have the {shape} axes of the env's action, got "
                f"{', '.join(limits.axes)}; name each of them"
            )
        self._limiter = MotionLimiter(limits, 1 / _rate(env, control_hz))
        self._positions = positions
        self._observed: Any = None
        self.action_space = limited_space(cast(Box, env.action_space), limits)

    def reset(
        self, *, seed: int | None = None, options: Options = None
    ) -> tuple[RawObservation, Info]:
        """Reset the env; the limits begin at rest where it is."""
        self._observed, info = self.env.reset(seed=seed, options=options)
        self._limiter.start(self._positions(self._observed))
        return self._observed, info

    def step(self, action: Array) -> tuple[RawObservation, Any, bool, bool, Info]:
        """Step the env with the nearest action that obeys the limits."""
        limited = self._limiter.limit(action, self._positions(self._observed))
        sent = limited.action.astype(cast(Any, self.env.action_space.dtype))
        self._observed, reward, terminated, truncated, info = self.env.step(sent)
        sent_info = {EXECUTED_ACTION: sent.astype(np.float32), CLIPPED: limited.clipped}
        return self._observed, reward, terminated, truncated, info | sent_info

    def clip_counts(self) -> ClipCounts:
        """Return how many actions there were, and how many were changed for what."""
        return self._limiter.counts()


def limited_space(space: Box, limits: MotionLimits) -> Box:
    """Return the part of an action space in which actions may obey the limits."""
    speed = np.array(limits.max_velocity)
    by_velocity = np.array(limits.commands) == "velocity"
    by_position = limits.by_position
    low = np.where(by_position, limits.low, np.where(by_velocity, -speed, -np.inf))
    high = np.where(by_position, limits.high, np.where(by_velocity, speed, np.inf))
    return Box(
        np.maximum(space.low, low).astype(np.float32),
        np.minimum(space.high, high).astype(np.float32),
        dtype=np.float32,
    )


def _rate(env: gymnasium.Env[Any, Array], given: float | None) -> float:
    metadata = cast(Mapping[str, Any], env.metadata or {})
    rate = given or getattr(env.unwrapped, "control_hz", None) or metadata.get("render_fps")
    if not isinstance(rate, int | float) or not rate > 0:
        raise ConfigError(
            f"control_hz must be the commands a second that the robot gets, got {rate}; pass it, "
            "or give the env an attribute control_hz"
        )
    return rate
