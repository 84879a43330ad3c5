"""Pictures of the tabletop, by MuJoCo's renderer without a screen."""

import atexit
import os
import threading
import weakref
from functools import cache

import numpy as np
from jaxtyping import Float64, UInt8

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import Look
from nearer.envs.tabletop.gl import Model, mujoco, open_context
from nearer.envs.tabletop.layout import Block
from nearer.envs.tabletop.mujoco_model import Quality, picture_model

_one_draws = threading.Lock()
"""Mesa's contexts share lists that it does not guard: two threads that drew at once for minutes
ended in a segmentation fault in its renderer (docs/log.md)."""
_UNUSED_EFFECTS = (
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


class Pictures:
    """Takes pictures of boards with the same blocks and look.

    Every thread draws with a GL context of its own, opened at its first picture.
    """

    def __init__(
        self, blocks: tuple[Block, ...], look: Look, quality: Quality, height: int, width: int
    ) -> None:
        self._model = picture_model(blocks, look, quality, height, width)
        self._shadows = quality.shadow_map > 0
        self._size = (height, width)
        self._of_thread = threading.local()

    def take(self, qpos: Float64[Array, "coordinates"]) -> UInt8[Array, "h w 3"]:
        """Return a picture of the board with these coordinates.

        Raises:
            EnvError: there is no OpenGL, or it was opened before this process was forked.
        """
        _refuse_fork()
        canvas: _Canvas | None = getattr(self._of_thread, "canvas", None)
        with _one_draws:
            if canvas is None:
                canvas = _Canvas(self._model, *self._size, self._shadows)
                self._of_thread.canvas = canvas
                _opened.add(self)
            return canvas.draw(qpos)

    def close(self) -> None:
        """Give back what this thread draws with; the next picture opens it anew."""
        canvas: _Canvas | None = getattr(self._of_thread, "canvas", None)
        if canvas is not None:
            with _one_draws:
                canvas.close()
            del self._of_thread.canvas


@cache
def pictures_of(
    blocks: tuple[Block, ...], look: Look, quality: Quality, height: int, width: int
) -> Pictures:
    """Return what takes such pictures, shared by all simulations."""
    return Pictures(blocks, look, quality, height, width)


_opened: weakref.WeakSet[Pictures] = weakref.WeakSet()
_pid_of_first: list[int] = []


def _refuse_fork() -> None:
    """Raise instead of hanging: OpenGL that was opened before a fork never answers after it."""
    if not _pid_of_first:
        _pid_of_first.append(os.getpid())
    if _pid_of_first[0] != os.getpid():
        raise EnvError(
            "pictures must not be taken in a process that was forked after the first picture, got "
            f"process {os.getpid()} of {_pid_of_first[0]}; start workers with "
            'multiprocessing.get_context("forkserver")'
        )


def _close_at_exit() -> None:
    for pictures in list(_opened):
        pictures.close()


class _Canvas:
    """What one thread draws with."""

    def __init__(self, model: Model, height: int, width: int, shadows: bool) -> None:
        self._model, self._size = model, (height, width)
        self._data = mujoco.MjData(model)
        self._gl, self._context = open_context(model, height, width)
        # MuJoCo ends OpenGL at exit; what runs at exit runs in reverse order, so ours comes first
        atexit.unregister(_close_at_exit)
        atexit.register(_close_at_exit)
        mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 10)
        for effect in _UNUSED_EFFECTS:
            self._scene.flags[int(effect)] = False
        self._scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = shadows
        self._option, self._viewport = mujoco.MjvOption(), mujoco.MjrRect(0, 0, width, height)
        self._camera = mujoco.MjvCamera()
        self._camera.type, self._camera.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), 0

    def draw(self, qpos: Float64[Array, "coordinates"]) -> UInt8[Array, "h w 3"]:
        """Return the picture."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        mujoco.mjv_updateScene(
            self._model,
            self._data,
            self._option,
            None,
            self._camera,
            int(mujoco.mjtCatBit.mjCAT_ALL),
            self._scene,
        )
        # other canvases of this thread, and other people's, may have drawn since
        self._gl.make_current()
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        upside_down = np.empty((*self._size, 3), np.uint8)
        mujoco.mjr_readPixels(upside_down, None, self._viewport, self._context)
        return np.ascontiguousarray(upside_down[::-1])

    def close(self) -> None:
        """Give it back."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()
