"""lerobot's own SO-101 and OpenCV camera through `--env lerobot`, without the hardware.

    python lerobot_robots.py FOLDER

Runs where lerobot and nearer are installed; run by compatibility.py. Two parts are simulated: the
bus of the motors and OpenCV's capture. Prints one JSON line.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import lerobot.robots.so_follower.so_follower as so_follower
import numpy as np

from nearer.core.errors import EnvError
from nearer.fleets.env_settings import EnvSettings
from nearer.fleets.gym import make_fleet

FPS = 20
STEPS = 40
SPEED = 200.0  # degrees a second
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
HOME = dict.fromkeys((f"{joint}.pos" for joint in JOINTS), 20.0)


class SimulatedBus:
    """Feetech motors that turn to their goals at a constant speed."""

    is_calibrated = True

    def __init__(self, port: str, motors: dict[str, Any], calibration: Any) -> None:
        self.motors = motors
        self.is_connected = False
        self._now = dict.fromkeys(motors, 0.0)
        self._goal = dict.fromkeys(motors, 0.0)
        self._moved_s = time.monotonic()

    def connect(self) -> None:
        self.is_connected = True

    def disconnect(self, disable_torque: bool = True) -> None:
        self.is_connected = False

    @contextmanager
    def torque_disabled(self) -> Iterator[None]:
        yield

    def configure_motors(self) -> None: ...

    def write(self, register: str, motor: str, value: float) -> None: ...

    def sync_read(self, register: str, num_retry: int = 0) -> dict[str, float]:
        self._turn()
        return dict(self._now)

    def sync_write(self, register: str, values: dict[str, float]) -> None:
        if not all(np.isfinite(value) for value in values.values()):
            raise ValueError(f"{values} are no goals")
        self._turn()
        self._goal.update(values)

    def _turn(self) -> None:
        now_s = time.monotonic()
        most = SPEED * (now_s - self._moved_s)
        self._moved_s = now_s
        for motor, goal in self._goal.items():
            self._now[motor] += float(np.clip(goal - self._now[motor], -most, most))


class SimulatedCapture:
    """OpenCV's capture of a camera that shows noise, 30 images a second."""

    def __init__(self, index: int, backend: int = 0) -> None:
        self._settings: dict[int, float] = {}
        self._rng = np.random.default_rng(index)

    def isOpened(self) -> bool:
        return True

    def set(self, setting: int, value: float) -> bool:
        self._settings[setting] = value
        return True

    def get(self, setting: int) -> float:
        return self._settings.get(setting, 0)

    def read(self) -> tuple[bool, Any]:
        time.sleep(1 / 30)
        return True, self._rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)

    def release(self) -> None: ...


def settings_of(folder: Path) -> EnvSettings:
    """Return the flags of an SO-101 with a camera."""
    kwargs = {
        "type": "so101_follower",
        "port": "/dev/null",
        "id": "simulated",
        "calibration_dir": str(folder),
        "cameras": {
            "front": {
                "type": "opencv",
                "index_or_path": 0,
                "width": 64,
                "height": 48,
                "fps": 30,
            }
        },
        "limits": {name: [0 if name == "gripper.pos" else -90, 90] for name in HOME},
        "max_velocity": 60,
        "fps": FPS,
        "reset": "script",
        "home": HOME,
    }
    return EnvSettings(env_kwargs=(json.dumps(kwargs),), instruction="lift the cup")


def drive(folder: Path) -> dict[str, object]:
    """Return what came of an episode, a pause and a stop."""
    cv2.VideoCapture = SimulatedCapture
    so_follower.FeetechMotorsBus = SimulatedBus
    fleet = make_fleet("lerobot", 1, settings_of(folder))
    robot = np.arange(1)
    fleet.reset(robot, [0])
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        sensed = fleet.step(robot, rng.uniform(-200, 200, (1, 6)).astype(np.float32))
    fleet.env.stop("operator")
    stopped = fleet.step(robot, np.zeros((1, 6), np.float32))
    summary = fleet.env.summary()
    try:
        fleet.reset(robot, [1])
        reset_while_stopped = True
    except EnvError:
        reset_while_stopped = False
    fleet.close()
    return {
        "observes": str(fleet.spaces),
        "control_hz": fleet.spaces.control_hz,
        "late_steps": summary.clock.missed,
        "jitter_ms_p99": round(summary.clock.p99_ms, 2),
        "clipped_for_velocity": f"{summary.clips.velocity} of {summary.clips.commands}",
        "finite": bool(np.isfinite(sensed.observation.state).all()),
        "stop_ms": round(summary.watchdog.slowest_stop_ms),
        "stop_ends_the_episode": bool(stopped.env_ended.all()),
        "moves_before_it_is_released": reset_while_stopped,
    }


if __name__ == "__main__":
    print(json.dumps(drive(Path(sys.argv[1]))))
