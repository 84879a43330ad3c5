"""Images of the tabletop, by MuJoCo's offscreen renderer."""

import atexit
import os
import threading
import weakref
from functools import cache

import numpy as np
from jaxtyping import Float64, UInt8

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import Appearance
from nearer.envs.tabletop.gl import Model, mujoco, open_context
from nearer.envs.tabletop.layout import Block
from nearer.envs.tabletop.mujoco_model import Quality, render_model

_render_lock = threading.Lock()
"""Mesa's contexts share lists without a lock of their own: two threads that rendered at once for
minutes ended in a segmentation fault (docs/log.md)."""
_UNUSED_EFFECTS = (
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


class Renderer:
    """Renders tabletops with the same blocks and appearance.

    Every thread renders with a GL context of its own, opened at its first image.
    """

    def __init__(
        self,
        blocks: tuple[Block, ...],
        appearance: Appearance,
        quality: Quality,
        height: int,
        width: int,
    ) -> None:
        self._model = render_model(blocks, appearance, quality, height, width)
        self._shadows = quality.shadow_map > 0
        self._size = (height, width)
        self._thread_local = threading.local()

    def render(self, qpos: Float64[Array, "coordinates"]) -> UInt8[Array, "h w 3"]:
        """Return an image of the tabletop at these coordinates.

        Raises:
            EnvError: there is no OpenGL, or it was opened before this process was forked.
        """
        _check_not_forked()
        thread_renderer: _ThreadRenderer | None = getattr(self._thread_local, "renderer", None)
        with _render_lock:
            if thread_renderer is None:
                thread_renderer = _ThreadRenderer(self._model, *self._size, self._shadows)
                self._thread_local.renderer = thread_renderer
                _open_renderers.add(self)
            return thread_renderer.render(qpos)

    def close(self) -> None:
        """Free this thread's GL context; its next image opens a new one."""
        thread_renderer: _ThreadRenderer | None = getattr(self._thread_local, "renderer", None)
        if thread_renderer is not None:
            with _render_lock:
                thread_renderer.close()
            del self._thread_local.renderer


@cache
def shared_renderer(
    blocks: tuple[Block, ...], appearance: Appearance, quality: Quality, height: int, width: int
) -> Renderer:
    """Return the renderer of such images, shared by all simulations."""
    return Renderer(blocks, appearance, quality, height, width)


_open_renderers: weakref.WeakSet[Renderer] = weakref.WeakSet()
_first_pid: list[int] = []


def _check_not_forked() -> None:
    """Raise instead of hanging: OpenGL that was opened before a fork never returns after it."""
    if not _first_pid:
        _first_pid.append(os.getpid())
    if _first_pid[0] != os.getpid():
        raise EnvError(
            "images must not be rendered in a process that was forked after the first image, got "
            f"process {os.getpid()} of {_first_pid[0]}; start workers with "
            'multiprocessing.get_context("forkserver")'
        )


def _close_at_exit() -> None:
    for renderer in list(_open_renderers):
        renderer.close()


class _ThreadRenderer:
    """The GL context, scene and camera with which one thread renders."""

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

    def render(self, qpos: Float64[Array, "coordinates"]) -> UInt8[Array, "h w 3"]:
        """Return the image."""
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
        # other contexts may have been made current in this thread since
        self._gl.make_current()
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        upside_down = np.empty((*self._size, 3), np.uint8)
        mujoco.mjr_readPixels(upside_down, None, self._viewport, self._context)
        return np.ascontiguousarray(upside_down[::-1])

    def close(self) -> None:
        """Free the GL context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()
