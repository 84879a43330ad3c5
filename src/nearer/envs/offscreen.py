"""Images of a MuJoCo model without a screen: one GL context a thread, one thread at a time."""

import atexit
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.gl import Model, mujoco, open_context

render_lock = threading.RLock()
"""Mesa's contexts share lists without a lock of their own: two threads that rendered at once for
minutes ended in a segmentation fault (docs/log.md)."""


class OffscreenRenderer:
    """Renders states of one model.

    Every thread renders with a GL context of its own, opened at its first image.

    Args:
        model: mujoco.MjModel; the size of its offscreen buffer is set to that of the images.
        height, width: of the images, in pixels.
        without: effects that are left out, of mujoco.mjtRndFlag.
        convex_hulls: whether a mesh that collides is drawn as its convex hull.
    """

    def __init__(
        self,
        model: Model,
        height: int,
        width: int,
        without: Sequence[Any],
        convex_hulls: bool = False,
    ) -> None:
        self._model, self._size, self._without = model, (height, width), without
        self._convex_hulls = convex_hulls
        self._thread_local = threading.local()

    def render(self, data: Any, camera: Any) -> UInt8[Array, "h w 3"]:
        """Return an image of a state.

        Args:
            data: mujoco.MjData of the model, with its kinematics computed.
            camera: mujoco.MjvCamera.

        Raises:
            EnvError: there is no OpenGL, or it was opened before this process was forked.
        """
        _check_not_forked()
        opened: _ThreadRenderer | None = getattr(self._thread_local, "renderer", None)
        with render_lock:
            if opened is None:
                opened = _ThreadRenderer(self._model, *self._size, self._without)
                opened.option.flags[int(mujoco.mjtVisFlag.mjVIS_CONVEXHULL)] = self._convex_hulls
                self._thread_local.renderer = opened
                _open_renderers.add(self)
            return opened.render(data, camera)

    def close(self) -> None:
        """Free this thread's GL context; its next image opens a new one."""
        opened: _ThreadRenderer | None = getattr(self._thread_local, "renderer", None)
        if opened is not None:
            with render_lock:
                opened.close()
            del self._thread_local.renderer


_open_renderers: weakref.WeakSet[OffscreenRenderer] = weakref.WeakSet()
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
    """The GL context and the scene with which one thread renders."""

    def __init__(self, model: Model, height: int, width: int, without: Sequence[Any]) -> None:
        self._model, self._size = model, (height, width)
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width
        self._gl, self._context = open_context(model, height, width)
        # MuJoCo ends OpenGL at exit; what runs at exit runs in reverse order, so ours comes first
        atexit.unregister(_close_at_exit)
        atexit.register(_close_at_exit)
        mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 10)
        for effect in without:
            self._scene.flags[int(effect)] = False
        self.option, self._viewport = mujoco.MjvOption(), mujoco.MjrRect(0, 0, width, height)

    def render(self, data: Any, camera: Any) -> UInt8[Array, "h w 3"]:
        every_geom = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(
            self._model, data, self.option, None, camera, every_geom, self._scene
        )
        self._gl.make_current()  # other contexts may have been made current in this thread since
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        upside_down = np.empty((*self._size, 3), np.uint8)
        mujoco.mjr_readPixels(upside_down, None, self._viewport, self._context)
        return np.ascontiguousarray(upside_down[::-1])

    def close(self) -> None:
        self._gl.make_current()
        self._context.free()
        self._gl.free()
