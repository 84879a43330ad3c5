"""What the simulator knows of one pair of arms now: its ground truth."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float64, Int64

from nearer.core.arrays import Array
from nearer.envs.aloha.poses import Pose


class Side(IntEnum):
    """One of the two arms, by its place in arrays."""

    LEFT = 0
    RIGHT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AlohaScene:
    """Arms and objects; everything in the frame of the table, z up.

    Attributes:
        joints_rad: six a side, from waist to wrist.
        sag_rad: how far each joint hangs below its target by gravity, once it stands still.
        fingers_touch: whether each side's left and right finger touch an object.
        objects: poses of the objects' centres, in the order of `tasks.OBJECTS`.
    """

    joints_rad: Float64[Array, "2 6"]
    sag_rad: Float64[Array, "2 6"]
    fingers_touch: Bool[Array, "2 2"]
    objects: tuple[Pose, ...]


@runtime_checkable
class AlohaGroundTruth(Protocol):
    """The simulator's ground truth that the demonstrator reads."""

    @property
    def mujoco_model(self) -> Any:
        """Return the mujoco.MjModel of the arms."""
        ...

    def scenes(self, robots: Int64[Array, "robots"]) -> list[AlohaScene]:
        """Return the present scene of each of these robots."""
        ...
