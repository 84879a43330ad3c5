"""Cameras that do not work: an image that stays the same while its robot moves, or shows nothing.

What a model concludes from such an image is wrong without looking so: a frozen image means no
progress, a black one may look like anything.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.errors import EnvError
from nearer.core.interfaces import Fleet, Sensed, Starts
from nearer.fleets.wrapper import FleetWrapper

_MOVED = 0.02
"""A robot has moved when a joint is so much of its largest value so far away from where it was."""


class WatchedCameras(FleetWrapper):
    """A fleet whose images are checked: a camera that does not work is an error of its robot.

    Args:
        fleet: robots with cameras, their images not encoded.
        frozen_steps: control steps in which an image may stay the same, bit for bit, while its
            robot moves.

    Raises:
        EnvError: from `reset`, an image of one colour; from `step`, a frozen one.
    """

    def __init__(self, fleet: Fleet, frozen_steps: int) -> None:
        super().__init__(fleet)
        self._frozen_steps = frozen_steps
        self._largest = np.full(fleet.spaces.agent_pos, 1e-6, np.float32)
        self._images: dict[tuple[int, str], Array] = {}
        self._positions: dict[tuple[int, str], Array] = {}
        self._same: dict[tuple[int, str], int] = {}

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots and check that their cameras show something."""
        starts = super().reset(robots, seeds)
        observation = _images_of(starts)
        for row, robot in enumerate(robots.tolist()):
            for camera, images in observation.images.items():
                if images[row].min() == images[row].max():
                    raise EnvError(
                        f"camera {camera} of robot {robot} must show something when an episode "
                        f"starts, got {images[row].flat[0]} in every pixel; let reset wait for the "
                        "camera's first image"
                    )
                self._remember(robot, camera, observation, row)
        return starts

    def step(self, robots: Int64[Array, "robots"], actions: Array) -> Sensed:
        """Step the fleet's robots and check that their images change when they move."""
        sensed = super().step(robots, actions)
        observation = _images_of(sensed)
        np.maximum(self._largest, np.abs(observation.agent_pos).max(axis=0), out=self._largest)
        for row, robot in enumerate(robots.tolist()):
            for camera, images in observation.images.items():
                self._check_changes(robot, camera, observation, images[row], row)
        return sensed

    def _check_changes(
        self, robot: int, camera: str, observation: Observation, image: Array, row: int
    ) -> None:
        key = robot, camera
        if not np.array_equal(image, self._images[key]):
            self._remember(robot, camera, observation, row)
            return
        self._same[key] += 1
        moved = np.abs(observation.agent_pos[row] - self._positions[key]) > _MOVED * self._largest
        if self._same[key] >= self._frozen_steps and moved.any():
            raise EnvError(
                f"camera {camera} of robot {robot} must show what moves, got the same image for "
                f"{self._same[key]} control steps while the robot moved; look after the camera, or "
                "pass --fleet.faults.frozen-steps 0 where it cannot see the robot"
            )

    def _remember(self, robot: int, camera: str, observation: Observation, row: int) -> None:
        key = robot, camera
        self._images[key] = observation.images[camera][row].copy()
        self._positions[key] = observation.agent_pos[row].copy()
        self._same[key] = 0


def _images_of(sensed: Starts | Sensed) -> Observation:
    assert isinstance(sensed.observation, Observation), "images are checked before encoding"
    return sensed.observation
