"""A camera whose images are painted."""

from dataclasses import dataclass

from lerobot.cameras import CameraConfig


@CameraConfig.register_subclass("painted")
@dataclass
class PaintedCameraConfig(CameraConfig):
    width: int
    height: int
    fps: int = 30
