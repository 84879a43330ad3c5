"""Any robot of lerobot as a Gymnasium env: the id `lerobot`.

    nearer improve --env lerobot --num-envs 1 --audits person --watch --env-kwargs '{
      "type": "so101_follower", "port": "/dev/ttyACM0", "id": "left",
      "cameras": {"front": {"type": "opencv", "index_or_path": 0, "width": 640, "height": 480,
                            "fps": 30}},
      "limits": {"shoulder_pan.pos": [-90, 90], ...}, "max_velocity": 60, "fps": 30}' ...

`agent_pos` has the numbers that the robot observes, `pixels` its cameras, and an action its
`action_features`; names and units are lerobot's.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict
from jaxtyping import Float64, UInt8

from nearer.core.arrays import Array
from nearer.core.asking import Ask
from nearer.core.errors import ConfigError, EnvError
from nearer.envs.gymnasium_types import RawObservation
from nearer.envs.robots.env import RobotEnv
from nearer.envs.robots.lerobot_robots import (
    Features,
    Robot,
    RobotObservation,
    connect,
    make_robot,
)
from nearer.envs.robots.motion_limits import Command, motion_limits

_LOG = logging.getLogger(__name__)
_VELOCITY = ".vel"
"""How lerobot's robots end most names of axes that are commanded velocities."""
_RGB = 3
_IMAGE_AXES = 3

_in_use: set[str] = set()
"""Robots that envs of this process drive, by their settings."""


class LeRobotDriver:
    """A robot of lerobot as a `RobotDriver`.

    Attributes:
        robot: of lerobot.
        axes: names of the action's axes, in lerobot's order.
        velocities: those of them that are commanded velocities.
        numbers: names of the numbers in `agent_pos`, in lerobot's order.
        cameras: name -> shape of its images.
        observation_space: `agent_pos` and `pixels`, as far as there are any.
    """

    def __init__(self, robot: Robot, velocities: Sequence[str] | None = None) -> None:
        """Drive a robot, connected or not.

        Args:
            robot: of lerobot.
            velocities: axes that are commanded velocities; None: those that end with `.vel`.

        Raises:
            ConfigError: an action of the robot is no number, or a position that it does not
                observe.
        """
        self.robot = robot
        self.axes = tuple(robot.action_features)
        by_name = tuple(axis for axis in self.axes if axis.endswith(_VELOCITY))
        self.velocities = by_name if velocities is None else tuple(velocities)
        features = robot.observation_features
        self.numbers = tuple(name for name, kind in features.items() if _is_number(kind))
        self._check_actions(robot.action_features)
        self.cameras = {name: tuple(kind) for name, kind in features.items() if _is_image(kind)}
        unread = [name for name in features if name not in (*self.numbers, *self.cameras)]
        if unread:
            _LOG.warning("lerobot observes %s besides, which is not read", ", ".join(unread))
        self.observation_space = _space(self.numbers, self.cameras)
        self._seen: Array | None = None

    def observe(self) -> RawObservation:
        """Return numbers and images.

        Raises:
            EnvError: a number is not finite, or an image is of another size.
        """
        raw = self.robot.get_observation()
        self._seen = self._positions_in(raw)
        observed: RawObservation = {"agent_pos": self._numbers_in(raw)}
        if self.cameras:
            observed["pixels"] = {name: self._image_in(raw, name) for name in self.cameras}
        return observed

    def positions(self) -> Float64[Array, "action"]:
        """Return what the robot observes under the names of its actions."""
        self._seen = self._positions_in(self.robot.get_observation())
        return self._seen

    def command(self, action: Float64[Array, "action"]) -> None:
        """Send an action under lerobot's names."""
        self.robot.send_action(
            dict(zip(self.axes, cast(list[float], action.tolist()), strict=True))
        )

    def hold(self) -> None:
        """Command the positions where the axes are, or were seen last, and no velocity."""
        try:
            positions = self.positions()
        except Exception:
            if self._seen is None:
                raise
            positions = self._seen
        held = {
            axis: 0.0 if axis in self.velocities else position
            for axis, position in zip(self.axes, cast(list[float], positions.tolist()), strict=True)
        }
        self.robot.send_action(held)

    def close(self) -> None:
        """Disconnect; a robot that is not connected any more is left alone."""
        if self.robot.is_connected:
            self.robot.disconnect()

    def _check_actions(self, features: Features) -> None:
        for axis, kind in features.items():
            if not _is_number(kind):
                raise ConfigError(
                    f"actions of the robot must be numbers, got {axis}: {kind}; write a driver of "
                    "your own, see docs/a-robot-of-your-own.md"
                )
            if axis not in (*self.velocities, *self.numbers):
                raise ConfigError(
                    f"the robot must observe {axis} to be held there, got {', '.join(self.numbers)}"
                    f'; if it is a velocity, pass "velocities": ["{axis}"]'
                )

    def _positions_in(self, raw: RobotObservation) -> Float64[Array, "action"]:
        return np.array([raw.get(axis, np.nan) for axis in self.axes], np.float64)

    def _numbers_in(self, raw: RobotObservation) -> Array:
        for name in self.numbers:
            if not np.isfinite(raw[name]):
                raise EnvError(
                    f"{name} must be finite, got {raw[name]}; check the motor and its cable"
                )
        return np.array([raw[name] for name in self.numbers], np.float32)

    def _image_in(self, raw: RobotObservation, name: str) -> UInt8[Array, "h w c"]:
        image = np.asarray(raw[name])
        if image.dtype != np.uint8 or image.shape != self.cameras[name]:
            raise EnvError(
                f"camera {name} must show uint8 of shape {self.cameras[name]}, as lerobot says, "
                f"got {image.dtype} of shape {image.shape}; set its width and height to what it has"
            )
        return image


class LeRobotEnv(RobotEnv):
    """A robot of lerobot, connected and calibrated, with limits, watchdog and resets."""

    def __init__(
        self,
        *,
        type: str | None = None,
        limits: Mapping[str, Sequence[float]] | None = None,
        max_velocity: float | Mapping[str, float] | None = None,
        max_acceleration: float | Mapping[str, float] | None = None,
        velocities: Sequence[str] | None = None,
        fps: float = 30,
        task: str | None = None,
        reset: str = "person",
        home: Mapping[str, float] | None = None,
        home_speed: float = 0.25,
        watchdog_s: float | None = None,
        ask: Ask | None = None,
        render_mode: str | None = None,
        **robot: Any,
    ) -> None:
        """Connect a robot.

        Args:
            type: as lerobot's `--robot.type`, such as so101_follower.
            limits: axis -> [least, greatest] position, in lerobot's units; of every axis that is
                commanded positions.
            max_velocity: of all axes, or axis -> its own; units a second.
            max_acceleration: in the same way; None: full speed within a quarter of a second.
            velocities: axes that are commanded velocities; None: those that end with `.vel`.
            fps: control steps a second.
            task: the instruction; None: --instruction gives it.
            reset: "script" or "person".
            home: axis -> position that a reset moves to first.
            home_speed: fraction of `max_velocity` on the way there.
            watchdog_s: the robot is held if no action comes for so long; None: five periods.
            ask: waits for the person; None: at the console or the terminal.
            render_mode: "rgb_array" for the first camera's image.
            robot: settings of lerobot's config, such as port, id and cameras.

        Raises:
            ConfigError: settings that cannot work.
            EnvError: lerobot is missing, or the robot does not answer or is not calibrated.
        """
        if not type or max_velocity is None:
            raise ConfigError(
                "--env-kwargs must have type and max_velocity for lerobot, got "
                f"type {type} and max_velocity {max_velocity}; pass for example "
                '\'{"type": "so101_follower", "max_velocity": 60, ...}\''
            )
        key = json.dumps([type, robot], sort_keys=True, default=str)
        if key in _in_use:
            raise EnvError(
                f"a robot must have one env, got a second one for {type}; pass --num-envs 1"
            )
        made = make_robot(type, robot)
        driver = LeRobotDriver(made, velocities)
        commands: dict[str, Command] = dict.fromkeys(driver.velocities, "velocity")
        checked = motion_limits(driver.axes, limits or {}, max_velocity, max_acceleration, commands)
        connect(made, type, robot)
        try:
            super().__init__(
                driver,
                checked,
                fps=fps,
                task=task,
                reset=reset,
                home=home,
                home_speed=home_speed,
                watchdog_s=watchdog_s,
                ask=ask,
                render_mode=render_mode,
            )
        except BaseException:
            driver.close()
            raise
        self.axes = driver.axes
        self._key = key
        _in_use.add(key)

    def close(self) -> None:
        """Hold the robot, and disconnect it."""
        super().close()
        _in_use.discard(self._key)


def _is_number(kind: Any) -> bool:
    return kind in (float, int)


def _is_image(kind: Any) -> bool:
    shape = cast(tuple[Any, ...], kind) if isinstance(kind, tuple | list) else ()
    return len(shape) == _IMAGE_AXES and shape[-1] == _RGB


def _space(numbers: Sequence[str], cameras: Mapping[str, tuple[int, ...]]) -> Space[Any]:
    spaces: dict[str, Space[Any]] = {"agent_pos": Box(-np.inf, np.inf, (len(numbers),), np.float32)}
    if cameras:
        spaces["pixels"] = Dict(
            {name: Box(0, 255, shape, np.uint8) for name, shape in cameras.items()}
        )
    return Dict(spaces)
