"""A driver of a small arm that moves by itself while time passes, for tests of robots."""

import time
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict

from nearer.core.arrays import Array
from nearer.envs.robots.motion_limits import motion_limits

AXES = ("shoulder", "elbow")
FPS = 50
SPEED = 4.0
"""Of its joints, units a second."""
RANGES: dict[str, tuple[float, float]] = {"shoulder": (-1, 1), "elbow": (-1, 1)}
LIMITS = motion_limits(AXES, RANGES, max_velocity=2.0)
FREE = motion_limits(AXES, RANGES, 1e6, float("inf"))
"""Limits that let every target within the positions pass."""


class SimulatedArm:
    """Two joints that go to their targets, and a camera that sees them as two grey columns."""

    cameras: Any = Dict({"front": Box(0, 255, (8, 8, 3), np.uint8)})
    observation_space: Any = Dict({"agent_pos": Box(-2, 2, (2,), np.float32), "pixels": cameras})

    def __init__(self, start: tuple[float, float] = (0.0, 0.0)) -> None:
        self.commands: list[Array] = []
        self.num_holds = 0
        self.num_closes = 0
        self.raises: Exception | None = None
        self.nan = False
        self.stuck = False
        self._positions = np.array(start)
        self._target = np.array(start)
        self._moved_s = time.monotonic()
        self._buffer = np.zeros(2, np.float32)

    def observe(self) -> dict[str, Array | dict[str, Array]]:
        self._buffer[:] = self.positions()
        image = np.zeros((8, 8, 3), np.uint8)
        image[:, :4], image[:, 4:] = np.nan_to_num(128 + 60 * self._buffer)[:, None, None]
        image[0, 0] = np.random.default_rng().integers(0, 255, 3)
        return {"agent_pos": self._buffer, "pixels": {"front": image}}

    def positions(self) -> Array:
        if self.raises is not None:
            raise self.raises
        self._move()
        return np.full(2, np.nan) if self.nan else self._positions.copy()

    def command(self, action: Array) -> None:
        if self.raises is not None:
            raise self.raises
        self._move()
        self.commands.append(action.copy())
        self._target = action.copy()

    def hold(self) -> None:
        self._move()
        self.num_holds += 1
        self._target = self._positions.copy()

    def close(self) -> None:
        self.num_closes += 1

    def _move(self) -> None:
        now_s = time.monotonic()
        most = 0 if self.stuck else SPEED * (now_s - self._moved_s)
        self._positions = self._positions + np.clip(self._target - self._positions, -most, most)
        self._moved_s = now_s
