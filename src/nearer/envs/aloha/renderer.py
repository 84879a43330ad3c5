"""Images of the arms, without shadows and multi-sampling, which cost many times the image itself.

What a robot observes shows the arms as their convex hulls besides: a quarter of the time.

A renderer serves all simulations of one model.
"""

from typing import Any

from jaxtyping import UInt8

from nearer.core.arrays import Array
from nearer.envs.gl import mujoco
from nearer.envs.offscreen import OffscreenRenderer

FRONT = "front"
"""A camera of our own, beside those of the model: it sees both grippers and everything that lies on
the table, from a start to an end. Of the model's cameras `front_close` follows the left hand."""
_FRONT_LOOKAT_M = (0.0, 0.5, 0.1)
_FRONT_DISTANCE_M = 0.65
_FRONT_AZIMUTH_DEG, _FRONT_ELEVATION_DEG = 90.0, -35.0


class AlohaRenderer:
    """Renders states of one model.

    Args:
        model: mujoco.MjModel.
        height, width: of the images, in pixels.
        convex_hulls: whether every part of an arm is drawn as its convex hull.
    """

    def __init__(self, model: Any, height: int, width: int, convex_hulls: bool = False) -> None:
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        flags = mujoco.mjtRndFlag
        without = (flags.mjRND_SHADOW, flags.mjRND_REFLECTION)
        self._model = model
        self._offscreen = OffscreenRenderer(model, height, width, without, convex_hulls)

    def render(self, data: Any, camera: str) -> UInt8[Array, "h w 3"]:
        """Return an image of a state, which must have been simulated or started.

        Args:
            data: mujoco.MjData of the model.
            camera: of the model, or `FRONT`.

        Raises:
            EnvError: there is no OpenGL, or it was opened before this process was forked.
        """
        return self._offscreen.render(data, self._view(camera))

    def close(self) -> None:
        """Free this thread's GL context; its next image opens a new one."""
        self._offscreen.close()

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
