"""Limits of position, velocity and acceleration, enforced on every command before it is sent.

For each axis of an action, with p the last command, v its velocity, dt the control period:

    velocity v' = (command - p) / dt     of an axis that is commanded positions
    low <= p + v' dt <= high
    |v'| <= max_velocity
    min(v, 0) - max_acceleration dt <= v' <= max(v, 0) + max_acceleration dt

The last line lets a robot brake as hard as a command asks: only speeding up is limited. So a
limited command lies between the last command and the wanted one, and never beyond either; and
commands that obey the limits pass as they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError, EnvError

Command = Literal["position", "velocity", "displacement"]
"""What an axis of an action is: a target, units a second, or units in this step."""
Clip = Literal["not_finite", "position", "velocity", "acceleration"]
"""What a command was changed for."""

FULL_SPEED_S = 0.25
"""In which an axis may reach its greatest velocity, where nobody says otherwise, seconds."""
_ROUNDING = 1e-6  # of a command or a limit that was written in float32


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionLimits:
    """What the commands of one robot may be: an entry an axis of its action, in the action's units.

    Attributes:
        axes: their names.
        low: least positions; -inf only where an axis is commanded no positions.
        high: greatest positions; inf in the same way.
        max_velocity: greatest speeds, units a second.
        max_acceleration: by how much a speed may grow in a second; inf: by any amount.
        commands: what each axis is commanded.
    """

    axes: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    max_velocity: tuple[float, ...]
    max_acceleration: tuple[float, ...]
    commands: tuple[Command, ...]

    def __post_init__(self) -> None:
        rows = zip(
            *(self.axes, self.low, self.high, self.max_velocity, self.max_acceleration),
            self.commands,
            strict=True,
        )
        for axis, low, high, velocity, acceleration, command in rows:
            finite = math.isfinite(low) and math.isfinite(high)
            if not low < high or not (finite or command != "position"):
                raise ConfigError(
                    f"limits of {axis} must be a least and a greatest position, got [{low}, "
                    f"{high}]; a robot without them breaks itself: read them off its data sheet"
                )
            if not 0 < velocity < math.inf:
                raise ConfigError(
                    f"max_velocity of {axis} must be a finite number above 0, got {velocity}; "
                    "start with a tenth of what the robot can do"
                )
            if not acceleration > 0:
                raise ConfigError(
                    f"max_acceleration of {axis} must be above 0, got {acceleration}; pass inf for "
                    "none"
                )

    @property
    def by_position(self) -> Bool[Array, "action"]:
        """Tell which axes are commanded positions."""
        return np.array([command == "position" for command in self.commands])

    @property
    def need_measured(self) -> bool:
        """Tell whether positions are limited that commands do not name."""
        limited = np.isfinite(self.low) | np.isfinite(self.high)
        return bool((limited & ~self.by_position).any())


def motion_limits(
    axes: Sequence[str],
    positions: Mapping[str, Sequence[float]],
    max_velocity: float | Mapping[str, float],
    max_acceleration: float | Mapping[str, float] | None = None,
    commands: Mapping[str, Command] | None = None,
) -> MotionLimits:
    """Return limits that are given by name, as in a JSON object.

    Args:
        axes: of the action, in its order.
        positions: axis -> [least, greatest]; of every axis that is commanded positions.
        max_velocity: of all axes, or axis -> its own; units a second.
        max_acceleration: in the same way; None: full speed within a quarter of a second.
        commands: axis -> what it is commanded, where that is no position.

    Raises:
        ConfigError: an axis has no limits, or limits are given of what is no axis.
    """
    kinds: dict[str, Command] = {axis: (commands or {}).get(axis, "position") for axis in axes}
    _check_positions(positions, [axis for axis in axes if kinds[axis] == "position"])
    pairs = [positions.get(axis, (-math.inf, math.inf)) for axis in axes]
    velocities = _of_each(axes, max_velocity, "max_velocity")
    accelerations = (
        tuple(velocity / FULL_SPEED_S for velocity in velocities)
        if max_acceleration is None
        else _of_each(axes, max_acceleration, "max_acceleration")
    )
    for given, name in ((positions, "limits"), (commands or {}, "commands")):
        _check_names(axes, given, name)
    return MotionLimits(
        axes=tuple(axes),
        low=tuple(float(low) for low, _ in pairs),
        high=tuple(float(high) for _, high in pairs),
        max_velocity=velocities,
        max_acceleration=accelerations,
        commands=tuple(kinds.values()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedAction:
    """A command that may be sent.

    Attributes:
        action: what to send.
        clipped: what it was changed for; empty: it is what was wanted.
    """

    action: Float64[Array, "action"]
    clipped: tuple[Clip, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipCounts:
    """Commands, and how many of them were changed, by what they were changed for.

    Attributes:
        commands: all of them.
        not_finite: had nan or infinity; the robot stayed where it was.
        position: beyond the least or greatest position.
        velocity: too fast.
        acceleration: sped up too quickly.
    """

    commands: int
    not_finite: int
    position: int
    velocity: int
    acceleration: int


class MotionLimiter:
    """Changes commands so that they obey the limits, and counts what it changed.

    It remembers the last command, so it has to see all of them.
    """

    def __init__(self, limits: MotionLimits, period_s: float) -> None:
        """Wait for `start`.

        Args:
            limits: of the robot.
            period_s: control period, seconds. Commands must not come faster: pace them by a
                `ControlClock`.
        """
        self.limits = limits
        self._period_s = period_s
        self._low, self._high = np.array(limits.low), np.array(limits.high)
        self._max_velocity = np.array(limits.max_velocity)
        self._gain = np.array(limits.max_acceleration) * period_s
        self._by_position = limits.by_position
        self._by_displacement = np.array(limits.commands) == "displacement"
        self._position = np.full(len(limits.axes), np.nan)
        self._velocity = np.zeros(len(limits.axes))
        self._commands = 0
        self._counts: dict[Clip, int] = dict.fromkeys(
            ("not_finite", "position", "velocity", "acceleration"), 0
        )

    def start(self, positions: Float[Array, "action"]) -> None:
        """Begin at rest.

        Args:
            positions: where the axes are; of those that are not commanded positions, anything.

        Raises:
            EnvError: a position is not finite.
        """
        strange = self._by_position & ~np.isfinite(positions)
        if strange.any():
            raise EnvError(
                f"the robot must know where {self._names(strange)} is, got "
                f"{float(positions[strange][0])}; check the sensor and its cable"
            )
        self._position = np.where(self._by_position, positions, 0).astype(np.float64)
        self._velocity = np.zeros(len(positions))

    def limit(
        self,
        action: Float[Array, "action"],
        measured: Float[Array, "action"] | None = None,
    ) -> LimitedAction:
        """Return what may be sent in place of `action`; the robot is taken to receive it.

        Args:
            action: what a policy wants.
            measured: positions of the axes now; needed where `limits.need_measured`.

        Raises:
            EnvError: the action has another number of axes.
        """
        assert not np.isnan(self._position).any(), "start must be called before limit"
        if np.shape(action) != self._position.shape:
            raise EnvError(
                f"an action must have {len(self._position)} numbers ({', '.join(self.limits.axes)})"
                f", got shape {np.shape(action)}; check which env the policy was trained for"
            )
        clipped: list[Clip] = []
        wanted = np.asarray(action, np.float64)
        if np.isfinite(wanted).all():
            velocity = self._obeying(wanted, measured, clipped)
        else:
            velocity = np.zeros(len(wanted))
            clipped.append("not_finite")
        self._velocity = velocity
        self._position = self._position + np.where(self._by_position, velocity, 0) * self._period_s
        self._commands += 1
        for kind in clipped:
            self._counts[kind] += 1
        return LimitedAction(action=self._command(velocity), clipped=tuple(clipped))

    def counts(self) -> ClipCounts:
        """Return how many commands there were, and how many were changed for what."""
        return ClipCounts(commands=self._commands, **self._counts)

    def _obeying(
        self,
        wanted: Float64[Array, "action"],
        measured: Float[Array, "action"] | None,
        clipped: list[Clip],
    ) -> Float64[Array, "action"]:
        """Return the velocity nearest to what is wanted that obeys the limits."""
        low = np.where(self._by_position, self._low, -np.inf)
        high = np.where(self._by_position, self._high, np.inf)
        wanted = _clip(wanted, low, high, "position", clipped)
        velocity = np.where(self._by_displacement, wanted / self._period_s, wanted)
        to_target = (wanted - self._position) / self._period_s
        velocity = np.where(self._by_position, to_target, velocity)
        if self.limits.need_measured:
            assert measured is not None, "measured positions are needed where commands name none"
            # An axis that is beyond a limit may stay or come back, and is not made to.
            down = np.minimum((self._low - measured) / self._period_s, 0)
            up = np.maximum((self._high - measured) / self._period_s, 0)
            down[self._by_position], up[self._by_position] = -np.inf, np.inf
            velocity = _clip(velocity, down, up, "position", clipped)
        velocity = _clip(velocity, -self._max_velocity, self._max_velocity, "velocity", clipped)
        slowest = np.minimum(self._velocity, 0) - self._gain
        fastest = np.maximum(self._velocity, 0) + self._gain
        return _clip(velocity, slowest, fastest, "acceleration", clipped)

    def _command(self, velocity: Float64[Array, "action"]) -> Float64[Array, "action"]:
        moved = np.where(self._by_displacement, velocity * self._period_s, velocity)
        return np.where(self._by_position, self._position, moved)

    def _names(self, chosen: Bool[Array, "action"]) -> str:
        return ", ".join(
            axis for axis, one in zip(self.limits.axes, chosen.tolist(), strict=True) if one
        )


def _clip(
    values: Float64[Array, "action"],
    low: Float64[Array, "action"],
    high: Float64[Array, "action"],
    kind: Clip,
    clipped: list[Clip],
) -> Float64[Array, "action"]:
    """Return values between `low` and `high`, and note `kind` if that changed more than bits."""
    inside = np.clip(values, low, high)
    changed = np.abs(inside - values) > _ROUNDING * (1 + np.abs(values))
    if changed.any() and kind not in clipped:
        clipped.append(kind)
    return inside


def _check_positions(positions: Mapping[str, Sequence[float]], needed: Sequence[str]) -> None:
    """Raise ConfigError unless there is a least and a greatest position of each axis."""
    missing = [axis for axis in needed if len(positions.get(axis, ())) != 2]
    if missing:
        example = ", ".join(f'"{axis}": [LEAST, GREATEST]' for axis in missing)
        raise ConfigError(
            f"limits must have the least and the greatest position of {', '.join(needed)}, got "
            f"none of {', '.join(missing)}; a policy that learns asks for anything, so measure how "
            f'far each axis may go, and pass "limits": {{{example}}}'
        )


def _of_each(
    axes: Sequence[str], given: float | Mapping[str, float], name: str
) -> tuple[float, ...]:
    """Return a number an axis.

    Raises:
        ConfigError: an axis has none.
    """
    if not isinstance(given, Mapping):
        return (float(given),) * len(axes)
    _check_names(axes, given, name)
    for axis in axes:
        if axis not in given:
            raise ConfigError(
                f"{name} must have a number for each of {', '.join(axes)}, got none for {axis}; "
                "add it, or pass one number for all"
            )
    return tuple(float(given[axis]) for axis in axes)


def _check_names(axes: Sequence[str], given: Mapping[str, object], name: str) -> None:
    for axis in given:
        if axis not in axes:
            raise ConfigError(
                f"{name} must name axes of the action, {', '.join(axes)}, got {axis}; correct it"
            )
