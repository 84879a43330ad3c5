"""The board's geometry, its blocks and their layout: values that the whole tabletop shares.

Metres and radians, in the robot's frame: x points away from the robot, y to its left. Sizes and
names are LanguageTable's (Lynch et al. 2022, arXiv:2210.06407, and its public simulator).
"""

from dataclasses import dataclass

from jaxtyping import Float64

from nearer.core.arrays import Array

WORKSPACE_X_M = (0.15, 0.6)
WORKSPACE_Y_M = (-0.3048, 0.3048)
BLOCK_HEIGHT_M = 0.025
EFFECTOR_RADIUS_M = 0.0127
"""Half an inch."""
ACTION_LIMIT_M = 0.1
"""Bound of an action, which moves the effector's target along x and y (LanguageTable's)."""

# Ours: a low rim around the workspace keeps the blocks in it. The effector passes over the rim, so
# that it gets behind every block from every side, and a robot can practise without resets.
BLOCK_X_M = (WORKSPACE_X_M[0] + 0.023, WORKSPACE_X_M[1] - 0.023)
BLOCK_Y_M = (WORKSPACE_Y_M[0] + 0.023, WORKSPACE_Y_M[1] - 0.023)
"""Bounds of a block's centre, set by the rim."""
EFFECTOR_X_M = (WORKSPACE_X_M[0] - 0.022, WORKSPACE_X_M[1] + 0.022)
EFFECTOR_Y_M = (WORKSPACE_Y_M[0] - 0.022, WORKSPACE_Y_M[1] + 0.022)
"""Bounds of the effector's axis."""


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """An object on the board, by the two words that name it."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


BLOCKS = tuple(
    Block(*name.split())
    for name in (
        "red moon",
        "red pentagon",
        "blue moon",
        "blue cube",
        "green cube",
        "green star",
        "yellow star",
        "yellow pentagon",
    )
)
"""LanguageTable's eight blocks."""

BANANA = Block("yellow", "banana")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLayout:
    """Poses of all blocks and of the effector; metres and radians.

    Attributes:
        blocks: on the board, in the order of `poses`.
        poses: x, y of each block's centre, and its yaw.
        effector: x, y of the pusher's axis.
    """

    blocks: tuple[Block, ...]
    poses: Float64[Array, "blocks 3"]
    effector: Float64[Array, "2"]

    def position(self, block: Block) -> Float64[Array, "2"]:
        """Return x, y of a block's centre."""
        return self.poses[self.blocks.index(block), :2]
