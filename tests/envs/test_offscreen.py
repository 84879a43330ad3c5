"""One offscreen renderer for every MuJoCo env: threads in turns, sizes, contexts opened again."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from nearer.envs.gl import mujoco
from nearer.envs.offscreen import OffscreenRenderer

XML = """
<mujoco><worldbody>
  <light pos="0 0 3"/><camera name="c" pos="0 0 2"/>
  <geom type="box" size=".3 .3 .1" rgba="1 0 0 1"/>
</worldbody></mujoco>
"""


def made(height: int, width: int) -> tuple[OffscreenRenderer, Any, Any]:
    model = mujoco.MjModel.from_xml_string(XML)
    data, camera = mujoco.MjData(model), mujoco.MjvCamera()
    mujoco.mj_forward(model, data)
    camera.type, camera.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), 0
    return OffscreenRenderer(model, height, width, ()), data, camera


def test_images_of_many_threads_are_the_same_bits() -> None:
    renderer, data, camera = made(40, 60)
    first = renderer.render(data, camera)
    assert first.shape == (40, 60, 3)
    assert first[20, 30, 0] > first[20, 30, 1], "the box is red"

    def rendered(_: int) -> bool:
        return np.array_equal(renderer.render(data, camera), first)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(rendered, range(40)))
    renderer.close()
    assert np.array_equal(renderer.render(data, camera), first), "a context is opened again"
    renderer.close()
