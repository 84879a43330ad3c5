"""One tabletop: physics that is stepped, a layout that is read, pictures that are taken."""

from collections import deque
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import SIM, Look
from nearer.envs.tabletop.gl import Model, mujoco
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
    Layout,
)
from nearer.envs.tabletop.mujoco_model import LEARNERS, PEOPLES, TIMESTEP_S, Quality, physics_model
from nearer.envs.tabletop.renderer import Pictures, pictures_of

CONTROL_HZ = 5
_EFFECTOR_BOUNDS = np.transpose([EFFECTOR_X_M, EFFECTOR_Y_M])
_BLOCK_BOUNDS = np.transpose([BLOCK_X_M, BLOCK_Y_M])
_BANANA_BOUNDS = np.transpose([WORKSPACE_X_M, WORKSPACE_Y_M])
_OFF_BOARD_M = 0.02
_CARRIED_LAG_M = 0.02


class Simulation:
    """A board with blocks and an effector that follows a target.

    Simulations with the same blocks and look share one model; each has its own state. A step is a
    function of the layout at reset and the actions since: the same ones give the same bits.
    """

    def __init__(
        self,
        blocks: tuple[Block, ...] = BLOCKS,
        look: Look = SIM,
        control_hz: int = CONTROL_HZ,
    ) -> None:
        self.blocks, self.look = blocks, look
        self._model = _shared_physics(blocks, look)
        self._data = mujoco.MjData(self._model)
        self._num_substeps = _num_substeps(control_hz)
        bounds = _BANANA_BOUNDS if BANANA in blocks else _BLOCK_BOUNDS
        self._bounds = bounds + np.array([[-_OFF_BOARD_M], [_OFF_BOARD_M]])
        self._target = np.zeros(2)
        self._delayed: deque[Array] = deque()
        self._pictures: set[Pictures] = set()
        self.num_clipped = 0

    def reset(self, layout: Layout) -> None:
        """Lay out the board; everything rests, and nothing is clipped yet.

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
        self._delayed = deque([np.zeros(2)] * self.look.delay_steps)
        self.num_clipped = 0
        self._check()

    def step(self, action: Float[Array, "2"]) -> bool:
        """Move the effector's target by an action and let one control step pass.

        The target stays within the effector's reach. When the effector is held up, it forgets all
        but 20 mm of the way it could not go: it neither leaps when it comes free, nor has to be
        wound back.

        Args:
            action: change of the target's x and y, in metres; clipped to +-0.1 each.

        Returns:
            Whether the action had to be clipped; `num_clipped` counts these since the reset.

        Raises:
            EnvError: the action is not finite, or the physics broke.
        """
        if not np.isfinite(action).all():
            raise EnvError(f"an action must be finite, got {action}; look at the policy's output")
        clipped = np.clip(action.astype(np.float64), -ACTION_LIMIT_M, ACTION_LIMIT_M)
        was_clipped = bool(np.abs(action).max() > ACTION_LIMIT_M + 1e-6)
        self.num_clipped += was_clipped
        self._delayed.append(clipped)
        effector = self._data.qpos[-2:]
        start = np.clip(self._target, effector - _CARRIED_LAG_M, effector + _CARRIED_LAG_M)
        self._target = np.clip(start + self._delayed.popleft(), *_EFFECTOR_BOUNDS)
        self._data.ctrl[:] = self._target
        mujoco.mj_step(self._model, self._data, self._num_substeps)
        self._check()
        return was_clipped

    def effector(self) -> Array:
        """Return the effector's x and y."""
        return self._data.qpos[-2:].copy()

    def layout(self) -> Layout:
        """Return where everything is: the simulator's truth."""
        qpos = self._data.qpos
        poses = qpos[:-2].reshape(-1, 3).copy()
        return Layout(blocks=self.blocks, poses=poses, effector=qpos[-2:].copy())

    def penetration_m(self) -> float:
        """Return how deep the two things that overlap most do so."""
        if self._data.ncon == 0:
            return 0.0
        return max(0.0, -float(self._data.contact.dist.min()))

    def picture(self, height: int, width: int) -> UInt8[Array, "h w 3"]:
        """Return the learner's picture: small, without shadows."""
        return self._picture(LEARNERS, height, width)

    def fine_picture(self, height: int, width: int) -> UInt8[Array, "h w 3"]:
        """Return a picture for people: with shadows, chamfers and smooth edges."""
        return self._picture(PEOPLES, height, width)

    def _picture(self, quality: Quality, height: int, width: int) -> UInt8[Array, "h w 3"]:
        pictures = pictures_of(self.blocks, self.look, quality, height, width)
        self._pictures.add(pictures)
        return pictures.take(self._data.qpos)

    def close_pictures(self) -> None:
        """Give back what this thread takes such pictures with; the next one opens it anew."""
        for pictures in self._pictures:
            pictures.close()

    def _check(self) -> None:
        """Refuse a state that physics cannot mean."""
        centres = self._data.qpos[:-2].reshape(-1, 3)[:, :2]
        low, high = self._bounds
        # NaN is not within bounds either
        on_board = ((centres >= low) & (centres <= high)).all(axis=-1)
        if not on_board.all():
            row = int(np.flatnonzero(~on_board)[0])
            raise EnvError(
                f"every block must stay on the board, got the {self.blocks[row]} at "
                f"x, y = {centres[row]} m; reset the env, and look at the actions before"
            )


def _num_substeps(control_hz: int) -> int:
    if control_hz not in (5, 10):
        raise EnvError(
            f"control_hz must be 5 or 10, got {control_hz}; make the env with control_hz=5"
        )
    return round(1 / (control_hz * TIMESTEP_S))


@cache
def _shared_physics(blocks: tuple[Block, ...], look: Look) -> Model:
    return physics_model(blocks, look)


def _names(blocks: tuple[Block, ...]) -> str:
    return ", ".join(map(str, blocks))
