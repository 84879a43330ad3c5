"""Images of the tabletop, by MuJoCo's offscreen renderer."""

from functools import cache

from jaxtyping import Float64, UInt8

from nearer.core.arrays import Array
from nearer.envs.gl import mujoco
from nearer.envs.offscreen import OffscreenRenderer, render_lock
from nearer.envs.tabletop.appearance import Appearance
from nearer.envs.tabletop.layout import Block
from nearer.envs.tabletop.mujoco_model import Quality, render_model

_UNUSED_EFFECTS = (
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


class Renderer:
    """Renders tabletops with the same blocks and appearance."""

    def __init__(
        self,
        blocks: tuple[Block, ...],
        appearance: Appearance,
        quality: Quality,
        height: int,
        width: int,
    ) -> None:
        self._model = render_model(blocks, appearance, quality, height, width)
        self._data = mujoco.MjData(self._model)
        self._camera = mujoco.MjvCamera()
        self._camera.type, self._camera.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), 0
        shadows = () if quality.shadow_map > 0 else (mujoco.mjtRndFlag.mjRND_SHADOW,)
        without = (*_UNUSED_EFFECTS, *shadows)
        self._offscreen = OffscreenRenderer(self._model, height, width, without)

    def render(self, qpos: Float64[Array, "coordinates"]) -> UInt8[Array, "h w 3"]:
        """Return an image of the tabletop at these coordinates.

        Raises:
            EnvError: there is no OpenGL, or it was opened before this process was forked.
        """
        with render_lock:  # the state is shared by all threads
            self._data.qpos[:] = qpos
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_camlight(self._model, self._data)
            return self._offscreen.render(self._data, self._camera)

    def close(self) -> None:
        """Free this thread's GL context; its next image opens a new one."""
        self._offscreen.close()


@cache
def shared_renderer(
    blocks: tuple[Block, ...], appearance: Appearance, quality: Quality, height: int, width: int
) -> Renderer:
    """Return the renderer of such images, shared by all simulations."""
    return Renderer(blocks, appearance, quality, height, width)
