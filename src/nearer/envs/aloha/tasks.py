"""The two tasks: which objects there are, where they start, and how a person would say it."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Float64

from nearer.core.arrays import Array

Range = tuple[float, float]


class AlohaTask(StrEnum):
    """What the two arms are to do."""

    INSERTION = "insertion"
    TRANSFER_CUBE = "transfer_cube"


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeObject:
    """An object that lies on the table, and where it may lie at the start.

    Attributes:
        x_m: of its centre, in the frame of the table; the left arm is at -0.469, the right at
            0.469.
        y_m: of its centre; both arms are at 0.5.
        rest_z_m: height of its centre when it lies on the table.
    """

    name: str
    x_m: Range
    y_m: Range
    rest_z_m: float


PEG = FreeObject(name="peg", x_m=(0.1, 0.2), y_m=(0.4, 0.6), rest_z_m=0.01)
SOCKET = FreeObject(name="socket", x_m=(-0.2, -0.1), y_m=(0.4, 0.6), rest_z_m=0.022)
CUBE = FreeObject(name="cube", x_m=(0.0, 0.2), y_m=(0.4, 0.6), rest_z_m=0.02)
OBJECTS: dict[AlohaTask, tuple[FreeObject, ...]] = {
    AlohaTask.INSERTION: (PEG, SOCKET),
    AlohaTask.TRANSFER_CUBE: (CUBE,),
}
"""In the order of the simulator's coordinates; ranges are those of gym-aloha."""
INSTRUCTIONS: dict[AlohaTask, tuple[str, ...]] = {
    AlohaTask.INSERTION: (
        "insert the peg into the socket",
        "put the red peg into the blue socket",
        "push the peg all the way into the socket",
    ),
    AlohaTask.TRANSFER_CUBE: (
        "put the cube into the left hand",
        "hand the red cube to the left arm",
        "pass the cube from the right hand to the left",
    ),
}


def draw_object_poses(task: AlohaTask, rng: np.random.Generator) -> Float64[Array, "objects 7"]:
    """Draw where the objects lie: x, y, z in metres and a unit quaternion, real part first."""
    return np.array(
        [
            [rng.uniform(*item.x_m), rng.uniform(*item.y_m), item.rest_z_m, 1.0, 0.0, 0.0, 0.0]
            for item in OBJECTS[task]
        ]
    )


def draw_instruction(task: AlohaTask, rng: np.random.Generator) -> str:
    """Draw one of the wordings of a task."""
    return str(rng.choice(INSTRUCTIONS[task]))
