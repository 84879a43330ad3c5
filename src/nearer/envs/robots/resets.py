"""How a robot is reset: by a script that moves it home, or by a person who says when it is done."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.envs.robots.motion_limits import MotionLimits


def check_reset(reset: str, home: Mapping[str, float] | None, home_speed: float) -> None:
    """Raise ConfigError unless a robot can be reset in this way."""
    if reset not in ("script", "person"):
        raise ConfigError(f"reset must be script or person, got {reset!r}; choose one")
    if reset == "script" and home is None:
        raise ConfigError(
            "reset=script must have a home pose to move to, got none; pass home with a position of "
            "each axis, or reset=person"
        )
    if not 0 < home_speed <= 1:
        raise ConfigError(
            f"home_speed must be a fraction of max_velocity above 0, got {home_speed}; pass 0.25"
        )


def home_positions(limits: MotionLimits, home: Mapping[str, float]) -> Float64[Array, "action"]:
    """Return a home pose, an entry an axis; 0 for those that are commanded no positions.

    Raises:
        ConfigError: an axis is missing, unknown, or beyond its limits.
    """
    ranges = {
        axis: (low, high)
        for axis, low, high, by_position in zip(
            limits.axes, limits.low, limits.high, limits.by_position.tolist(), strict=True
        )
        if by_position
    }
    if set(home) != set(ranges):
        raise ConfigError(
            f"home must have a position of each of {', '.join(ranges)}, got "
            f"{', '.join(home) or 'none'}; correct it"
        )
    for axis, (low, high) in ranges.items():
        if not low <= home[axis] <= high:
            raise ConfigError(
                f"home of {axis} must lie within its limits [{low}, {high}], got {home[axis]}; "
                "correct one of them"
            )
    return np.array([home.get(axis, 0) for axis in limits.axes], np.float64)


def toward(
    position: Float64[Array, "action"],
    goal: Float64[Array, "action"],
    longest: Float64[Array, "action"],
) -> Float64[Array, "action"]:
    """Return the next position on the straight line to a goal, where all axes arrive together.

    Args:
        position: the last one.
        goal: the end of the line.
        longest: how far each axis may go at once.
    """
    num_steps = float(np.max(np.abs(goal - position) / longest))
    return goal if num_steps <= 1 else position + (goal - position) / num_steps
