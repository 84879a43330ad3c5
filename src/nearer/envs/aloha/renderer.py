"""Images of the arms, without shadows and multi-sampling, which cost many times the image itself.

A renderer serves all simulations of one model.
"""

import threading
from typing import Any

import numpy as np
from jaxtyping import UInt8

from nearer.core.arrays import Array
from nearer.envs.tabletop.gl import mujoco, open_context

FRONT = "front"
"""A camera of our own, beside those of the model: it sees both grippers and everything that lies on
the table, from a start to an end. Of the model's cameras `front_close` follows the left hand."""
_FRONT_LOOKAT_M = (0.0, 0.5, 0.1)
_FRONT_DISTANCE_M = 0.65
_FRONT_AZIMUTH_DEG, _FRONT_ELEVATION_DEG = 90.0, -35.0


class AlohaRenderer:
    """Renders states of one model; every thread opens a GL context of its own at its first image.

    A process that is forked must not have rendered before.
    """

    def __init__(self, model: Any, height: int, width: int) -> None:
        self._model, self._size = model, (height, width)
        self._thread_local = threading.local()

    def render(self, data: Any, camera: str) -> UInt8[Array, "h w 3"]:
        """Return an image of a state, which must have been simulated or started.

        Args:
            data: mujoco.MjData of the model.
            camera: of the model, or `FRONT`.

        Raises:
            EnvError: there is no OpenGL.
        """
        opened: _ThreadRenderer | None = getattr(self._thread_local, "renderer", None)
        if opened is None:
            opened = _ThreadRenderer(self._model, *self._size)
            self._thread_local.renderer = opened
        return opened.render(data, camera)

    def close(self) -> None:
        """Free this thread's GL context; its next image opens a new one."""
        opened: _ThreadRenderer | None = getattr(self._thread_local, "renderer", None)
        if opened is not None:
            opened.close()
            del self._thread_local.renderer


class _ThreadRenderer:
    """The GL context and the scene with which one thread renders."""

    def __init__(self, model: Any, height: int, width: int) -> None:
        self._model, self._size = model, (height, width)
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width
        self._gl, self._context = open_context(model, height, width)
        mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 10)
        self._scene.flags[int(mujoco.mjtRndFlag.mjRND_SHADOW)] = False
        self._scene.flags[int(mujoco.mjtRndFlag.mjRND_REFLECTION)] = False
        self._option, self._viewport = mujoco.MjvOption(), mujoco.MjrRect(0, 0, width, height)

    def render(self, data: Any, camera: str) -> UInt8[Array, "h w 3"]:
        every_geom = int(mujoco.mjtCatBit.mjCAT_ALL)
        view = self._view(camera)
        mujoco.mjv_updateScene(self._model, data, self._option, None, view, every_geom, self._scene)
        self._gl.make_current()  # other contexts may have been made current in this thread since
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        upside_down = np.empty((*self._size, 3), np.uint8)
        mujoco.mjr_readPixels(upside_down, None, self._viewport, self._context)
        return np.ascontiguousarray(upside_down[::-1])

    def close(self) -> None:
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def _view(self, camera: str) -> Any:
        view = mujoco.MjvCamera()
        if camera != FRONT:
            view.type = int(mujoco.mjtCamera.mjCAMERA_FIXED)
            view.fixedcamid = self._model.camera(camera).id
            return view
        view.type = int(mujoco.mjtCamera.mjCAMERA_FREE)
        view.lookat[:] = _FRONT_LOOKAT_M
        view.distance = _FRONT_DISTANCE_M
        view.azimuth, view.elevation = _FRONT_AZIMUTH_DEG, _FRONT_ELEVATION_DEG
        return view
