"""Find, configure and connect a robot of lerobot, which is imported only then.

lerobot is no dependency of nearer: it needs Python 3.12, and its own versions of torch.
"""

import inspect
import pkgutil
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol, cast, runtime_checkable

from nearer.core.errors import ConfigError, EnvError

RobotSettings = Mapping[str, Any]
"""Of one of lerobot's configs: port, id, cameras and whatever else its class has."""
Features = Mapping[str, Any]
"""What a robot observes or is commanded: a name -> `float`, or the shape of an image."""
RobotObservation = Mapping[str, Any]
"""What a robot has observed: a name -> a number, or an image."""


@runtime_checkable
class Robot(Protocol):
    """What nearer uses of a `lerobot.robots.Robot`."""

    @property
    def observation_features(self) -> Features:
        """Return what is observed."""
        ...

    @property
    def action_features(self) -> Features:
        """Return what is commanded; numbers alone."""
        ...

    @property
    def is_connected(self) -> bool:
        """Tell whether motors and cameras answer."""
        ...

    @property
    def is_calibrated(self) -> bool:
        """Tell whether motors have the calibration of lerobot's file."""
        ...

    def connect(self, calibrate: bool = True) -> None:
        """Connect, and ask a person to calibrate if there is no calibration."""
        ...

    def get_observation(self) -> RobotObservation:
        """Return what is sensed now, by the names of `observation_features`."""
        ...

    def send_action(self, action: Mapping[str, float]) -> Mapping[str, float]:
        """Send an action, by the names of `action_features`, and return what was sent."""
        ...

    def disconnect(self) -> None:
        """Let go of motors and cameras."""
        ...


def make_robot(robot_type: str, settings: RobotSettings) -> Robot:
    """Return a robot that is not connected yet.

    Args:
        robot_type: as lerobot's `--robot.type`, such as so101_follower; `MODULE:TYPE` for one that
            a module of another package registers.
        settings: of its config, such as port, id and cameras.

    Raises:
        EnvError: lerobot is missing.
        ConfigError: there is no such robot, or it has other settings.
    """
    robots = _lerobot("lerobot.robots")
    cameras = _lerobot("lerobot.cameras")
    module, _, name = robot_type.rpartition(":")
    if module:
        import_module(module)
    failed = _register(robots.RobotConfig, [name], robots)
    types = [str(camera.get("type")) for camera in _cameras_of(settings)]
    failed += _register(cameras.CameraConfig, types, cameras)
    known = sorted(cast(Mapping[str, Any], robots.RobotConfig.get_known_choices()))
    if name not in known:
        not_imported = f" (not imported: {'; '.join(failed)})" if failed else ""
        raise ConfigError(
            f"type must be a robot of lerobot, {', '.join(known)}, got {name!r}"
            f"{not_imported}; for one of another package, pass type=MODULE:TYPE"
        )
    decode = import_module("draccus").decode
    try:
        config = decode(robots.RobotConfig, {"type": name, **settings})
    except Exception as error:
        why = f"{error} {error.__cause__ or ''}".strip()
        raise ConfigError(
            f"--env-kwargs must be settings of lerobot's {name}, beside nearer's own, got: {why}; "
            "correct them"
        ) from error
    return robots.make_robot_from_config(config)


def connect(robot: Robot, robot_type: str, settings: RobotSettings) -> None:
    """Connect a robot; calibration is a person's, before.

    Raises:
        EnvError: it does not answer, or is not calibrated.
    """
    may_calibrate = "calibrate" in inspect.signature(robot.connect).parameters
    try:
        robot.connect(calibrate=False) if may_calibrate else robot.connect()
    except Exception as error:
        raise EnvError(
            f"{robot_type} must answer when it is connected, got {type(error).__name__}: {error}; "
            "check power, cable, port and cameras (lerobot-find-port, lerobot-find-cameras)"
        ) from error
    if robot.is_calibrated is False:
        robot.disconnect()
        given = " ".join(
            f"--robot.{name}={settings[name]}" for name in ("port", "id") if name in settings
        )
        raise EnvError(
            f"{robot_type} must be calibrated, got no calibration that its motors agree with; run "
            f"lerobot-calibrate --robot.type={robot_type} {given}".rstrip()
        )


def _lerobot(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lerobot":
            raise  # something that lerobot needs, which its own words name
        raise EnvError(
            f"the env lerobot must have the package lerobot, got: {error}; install it under Python "
            f"3.12 or newer with pip install lerobot (this is Python {platform.python_version()})"
        ) from error


def _cameras_of(settings: RobotSettings) -> Iterator[RobotSettings]:
    cameras = settings.get("cameras")
    if isinstance(cameras, Mapping):
        for camera in cast(Mapping[str, Any], cameras).values():
            if isinstance(camera, Mapping):
                yield cast(Mapping[str, Any], camera)


def _register(registry: Any, names: Sequence[str], package: ModuleType) -> list[str]:
    """Import lerobot's packages until all names are registered; return what cannot be imported.

    A config registers itself when it is imported, and lerobot imports none by itself.
    """
    failed: list[str] = []
    for part in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if set(names) <= set(registry.get_known_choices()):
            break
        if not part.ispkg:
            continue
        try:
            import_module(part.name)
        except ImportError as error:
            failed.append(f"{part.name}, {error}")
    return failed
