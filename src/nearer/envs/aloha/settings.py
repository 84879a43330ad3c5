"""Settings of an ALOHA env, and the spaces of its observations and actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from jaxtyping import Float64

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.aloha.renderer import FRONT
from nearer.envs.aloha.simulation import CONTROL_HZ
from nearer.envs.aloha.tasks import OBJECTS, AlohaTask

CAMERAS = (
    *(FRONT, "front_close", "right_wrist", "left_wrist"),
    *("top", "angle", "left_pillar", "right_pillar"),
)
NUM_AXES = 14
"""Of an action and of `agent_pos`: six joints and a gripper a side."""
_DEFAULT_CAMERAS = ("front_close", "right_wrist")
"""Of the model's cameras the one that shows most of an insertion, and the closest one. Neither
shows what lies before the right arm at the start; `front` and `top` do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlohaSettings:
    """Settings of an ALOHA env.

    Attributes:
        images: whether images are observed.
        object_poses: whether the objects' true poses are observed.
        cameras: that are observed.
        height, width: of the observed images, in pixels.
        camera_hz: images a second; between two of them the last one is observed again.
    """

    task: AlohaTask
    images: bool
    object_poses: bool
    cameras: tuple[str, ...]
    height: int
    width: int
    camera_hz: int

    def observation_space(self) -> Space[Any]:
        """Return the space of observations under lerobot's keys.

        Without bounds for joints: they swing beyond their limits when their targets jump.
        """
        parts: dict[str, Space[Any]] = {"agent_pos": _numbers(NUM_AXES)}
        if self.object_poses:
            parts["environment_state"] = _numbers(7 * len(OBJECTS[self.task]))
        if self.images:
            image = Box(0, 255, (self.height, self.width, 3), np.uint8)
            parts["pixels"] = Dict(dict.fromkeys(self.cameras, image))
        return Dict(parts)


def action_space(joint_limits_rad: Float64[Array, "2 6 2"]) -> Box:
    """Return the space of actions: six joint targets in rad and a gripper in 0..1, a side."""
    low, high = np.zeros((2, 7), np.float32), np.ones((2, 7), np.float32)
    low[:, :6], high[:, :6] = np.moveaxis(joint_limits_rad, -1, 0)
    return Box(low.ravel(), high.ravel())


def _numbers(count: int) -> Box:
    return Box(-np.inf, np.inf, (count,), np.float32)


def read_settings(
    task: str,
    images: bool = True,
    object_poses: bool = False,
    cameras: Sequence[str] = _DEFAULT_CAMERAS,
    height: int = 96,
    width: int = 128,
    camera_hz: int = CONTROL_HZ,
) -> AlohaSettings:
    """Return the settings that the keyword arguments of an env stand for.

    Args:
        task: a value of `tasks.AlohaTask`.
        images: whether images are observed.
        object_poses: whether `environment_state` holds the objects' true poses.
        cameras: of `CAMERAS`.
        height: of the observed images, in pixels.
        width: of the observed images, in pixels.
        camera_hz: images a second, from the start on. A policy that decides ten times a second, on
            chunks of five control steps, sees none of the others, and rendering is what an env with
            images costs.

    Raises:
        EnvError: an argument has no meaning.
    """
    if task not in list(AlohaTask):
        raise EnvError(
            f"task must be one of {', '.join(AlohaTask)}, got {task!r}; make "
            "nearer/AlohaInsertion-v0 or nearer/AlohaTransferCube-v0"
        )
    unknown = [name for name in cameras if name not in CAMERAS]
    if isinstance(cameras, str) or unknown or not cameras or len(set(cameras)) < len(cameras):
        raise EnvError(
            f"cameras must be different ones of {', '.join(CAMERAS)}, got {cameras!r}; "
            "leave images out with images=False"
        )
    if height < 1 or width < 1:
        raise EnvError(
            f"height and width must be at least one pixel, got {height} and {width}; "
            "leave images out with images=False"
        )
    if not 1 <= camera_hz <= CONTROL_HZ or CONTROL_HZ % camera_hz:
        raise EnvError(
            f"camera_hz must divide the {CONTROL_HZ} control steps a second, got {camera_hz}; "
            "choose 10 for decisions on chunks of five"
        )
    return AlohaSettings(
        task=AlohaTask(task),
        images=images,
        object_poses=object_poses,
        cameras=tuple(cameras),
        height=height,
        width=width,
        camera_hz=camera_hz,
    )
