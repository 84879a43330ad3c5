"""One simulated tabletop: its physics, its layout, its images."""

from collections import deque
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.gl import Model, mujoco
from nearer.envs.tabletop.appearance import SIM, Appearance
from nearer.envs.tabletop.layout import (
    ACTION_LIMIT_M,
    BANANA,
    BLOCK_X_M,
    BLOCK_Y_M,
    BLOCKS,
    EFFECTOR_X_M,
    EFFECTOR_Y_M,
    WORKSPACE_X_M,
    WORKSPACE_Y_M,
    Block,
    BlockLayout,
)
from nearer.envs.tabletop.mujoco_model import (
    OBSERVATION_QUALITY,
    PRESENTATION_QUALITY,
    TIMESTEP_S,
    Quality,
    physics_model,
)
from nearer.envs.tabletop.renderer import Renderer, shared_renderer

CONTROL_HZ = 5
_EFFECTOR_BOUNDS = np.transpose([EFFECTOR_X_M, EFFECTOR_Y_M])
_BLOCK_BOUNDS = np.transpose([BLOCK_X_M, BLOCK_Y_M])
_BANANA_BOUNDS = np.transpose([WORKSPACE_X_M, WORKSPACE_Y_M])
_OFF_BOARD_M = 0.02
"""A block's centre beyond its bounds by more than this means that the physics broke."""
_MAX_LAG_M = 0.02
"""How far the target may lead an effector that is held up."""


class Simulation:
    """A board with blocks and an effector that follows a target.

    Simulations with the same blocks and appearance share one model; each has its own state. The
    state is a function of the layout at reset and the actions since, bit for bit.
    """

    def __init__(
        self,
        blocks: tuple[Block, ...] = BLOCKS,
        appearance: Appearance = SIM,
        control_hz: int = CONTROL_HZ,
    ) -> None:
        self.blocks, self.appearance = blocks, appearance
        self._model = _shared_physics(blocks, appearance)
        self._data = mujoco.MjData(self._model)
        self._num_substeps = _num_substeps(control_hz)
        bounds = _BANANA_BOUNDS if BANANA in blocks else _BLOCK_BOUNDS
        self._bounds = bounds + np.array([[-_OFF_BOARD_M], [_OFF_BOARD_M]])
        self._target = np.zeros(2)
        self._delayed: deque[Array] = deque()
        self._renderers: set[Renderer] = set()
        self.num_clipped = 0

    def reset(self, layout: BlockLayout) -> None:
        """Set the layout; everything rests, the delay line and the count of clips are cleared.

        Raises:
            EnvError: the layout has other blocks, or one that is not on the board.
        """
        if layout.blocks != self.blocks:
            raise EnvError(
                f"a layout must have the simulation's blocks {_names(self.blocks)}, "
                f"got {_names(layout.blocks)}; make a simulation with those"
            )
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = np.concatenate([layout.poses.ravel(), layout.effector])
        self._target = layout.effector.astype(np.float64)
        self._delayed = deque([np.zeros(2)] * self.appearance.delay_steps)
        self.num_clipped = 0
        self._check()

    def step(self, action: Float[Array, "2"]) -> bool:
        """Move the effector's target by an action and simulate one control step.

        The target stays within the effector's bounds, and within 20 mm of the effector along each
        axis before it moves (anti-windup): an effector that was held up neither leaps when it comes
        free, nor needs many actions to turn back.

        Args:
            action: change of the target's x and y, in metres; clipped to +-0.1 each.

        Returns:
            Whether the action had to be clipped; `num_clipped` counts these since the reset.

        Raises:
            EnvError: the action is not finite, or the physics broke.
        """
        if not np.isfinite(action).all():
            raise EnvError(f"an action must be finite, got {action}; check the policy's output")
        clipped = np.clip(action.astype(np.float64), -ACTION_LIMIT_M, ACTION_LIMIT_M)
        # float32 actions at the limit may lie a rounding error beyond it
        was_clipped = bool(np.abs(action).max() > ACTION_LIMIT_M + 1e-6)
        self.num_clipped += was_clipped
        self._delayed.append(clipped)
        effector = self._data.qpos[-2:]
        start = np.clip(self._target, effector - _MAX_LAG_M, effector + _MAX_LAG_M)
        self._target = np.clip(start + self._delayed.popleft(), *_EFFECTOR_BOUNDS)
        self._data.ctrl[:] = self._target
        mujoco.mj_step(self._model, self._data, self._num_substeps)
        self._check()
        return was_clipped

    def effector(self) -> Array:
        """Return the effector's x and y, in metres."""
        return self._data.qpos[-2:].copy()

    def layout(self) -> BlockLayout:
        """Return the present layout (ground truth)."""
        qpos = self._data.qpos
        poses = qpos[:-2].reshape(-1, 3).copy()
        return BlockLayout(blocks=self.blocks, poses=poses, effector=qpos[-2:].copy())

    def penetration_m(self) -> float:
        """Return the depth of the deepest contact."""
        if self._data.ncon == 0:
            return 0.0
        return max(0.0, -float(self._data.contact.dist.min()))

    def camera_image(self, height: int, width: int) -> UInt8[Array, "h w 3"]:
        """Return the image that a policy observes: fast to render, without shadows."""
        return self._render(OBSERVATION_QUALITY, height, width)

    def render_image(self, height: int, width: int) -> UInt8[Array, "h w 3"]:
        """Return an image for people: with shadows, chamfers and smooth edges."""
        return self._render(PRESENTATION_QUALITY, height, width)

    def _render(self, quality: Quality, height: int, width: int) -> UInt8[Array, "h w 3"]:
        renderer = shared_renderer(self.blocks, self.appearance, quality, height, width)
        self._renderers.add(renderer)
        return renderer.render(self._data.qpos)

    def close_renderers(self) -> None:
        """Free the GL contexts of this thread; the next image opens new ones."""
        for renderer in self._renderers:
            renderer.close()

    def _check(self) -> None:
        """Raise when a block has left the board, or its position is not a number."""
        centres = self._data.qpos[:-2].reshape(-1, 3)[:, :2]
        low, high = self._bounds
        # comparisons with NaN are false, so NaN counts as off the board
        on_board = ((centres >= low) & (centres <= high)).all(axis=-1)
        if not on_board.all():
            row = int(np.flatnonzero(~on_board)[0])
            raise EnvError(
                f"every block must stay on the board, got the {self.blocks[row]} at "
                f"x, y = {centres[row]} m; reset the env, and check the actions before"
            )


def _num_substeps(control_hz: int) -> int:
    if control_hz not in (5, 10):
        raise EnvError(
            f"control_hz must be 5 or 10, got {control_hz}; make the env with control_hz=5"
        )
    return round(1 / (control_hz * TIMESTEP_S))


@cache
def _shared_physics(blocks: tuple[Block, ...], appearance: Appearance) -> Model:
    return physics_model(blocks, appearance)


def _names(blocks: tuple[Block, ...]) -> str:
    return ", ".join(map(str, blocks))
