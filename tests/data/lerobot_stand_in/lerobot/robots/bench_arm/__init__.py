"""A robot on a bench: a joint, a gripper and a wheel, a camera and a depth camera."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lerobot.cameras import CameraConfig
from lerobot.robots import RobotConfig


class DeviceNotConnectedError(ConnectionError):
    """As lerobot's own."""


@RobotConfig.register_subclass("bench_arm")
@dataclass
class BenchArmConfig(RobotConfig):
    port: str
    id: str | None = None
    calibrated: bool = True
    plugged_in: bool = True
    unobserved: tuple[str, ...] = ()
    cameras: dict[str, Any] = field(default_factory=dict, metadata={"registry": CameraConfig})


class BenchArm:
    """Goes where it is told to at once."""

    def __init__(self, config: BenchArmConfig) -> None:
        self.config = config
        self.sent: list[dict[str, float]] = []
        self.state = {"lift.pos": 5.0, "gripper.pos": 50.0, "wheel.vel": 0.0}
        self.fixed: dict[str, float] = {}
        self.num_observations = 0
        self.is_connected = False

    @property
    def is_calibrated(self) -> bool:
        return self.config.calibrated

    @property
    def observation_features(self) -> dict[str, Any]:
        images = {
            name: (camera.height, camera.width, 3) for name, camera in self.config.cameras.items()
        }
        depth = {f"{name}_depth": (*shape[:2], 1) for name, shape in images.items()}
        state = {name: float for name in self.state if name not in self.config.unobserved}
        return {**state, "current": float, **images, **depth}

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(self.state, float)

    def connect(self, calibrate: bool = True) -> None:
        if not self.config.plugged_in:
            raise DeviceNotConnectedError(f"no motor answers on {self.config.port}")
        self.is_connected = True
        if calibrate and not self.is_calibrated:
            input("Move the arm to the middle of its range, and press Enter")

    def get_observation(self) -> dict[str, Any]:
        self._check()
        self.num_observations += 1
        observed: dict[str, Any] = {**self.state, "current": 0.1, **self.fixed}
        for name, camera in self.config.cameras.items():
            shape = (camera.height, camera.width, 3)
            shade = self.num_observations % 256
            observed[name] = np.full(shape, shade, np.uint8)
            observed[f"{name}_depth"] = np.zeros((*shape[:2], 1), np.uint16)
        return observed

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        self._check()
        time.sleep(0.001)
        self.sent.append(dict(action))
        self.state.update(action)
        return action

    def disconnect(self) -> None:
        self._check()
        self.is_connected = False

    def _check(self) -> None:
        if not self.is_connected:
            raise DeviceNotConnectedError("BenchArm is not connected. Run `.connect()` first.")
