"""What the demonstrator reads of an env."""

import numpy as np
import pytest

from nearer.envs.aloha.env import AlohaEnvVector
from nearer.envs.aloha.scene import AlohaGroundTruth, Side


@pytest.mark.usefixtures("insertion")
def test_rows_of_an_env_have_a_scene_each() -> None:
    envs = AlohaEnvVector(num_envs=2, task="insertion", images=False)
    envs.reset(seed=0)
    assert isinstance(envs, AlohaGroundTruth)
    first, second = envs.scenes(np.arange(2))
    assert first.joints_rad.shape == (len(Side), 6)
    assert not np.allclose(first.objects[0].position_m, second.objects[0].position_m)
    assert np.array_equal(envs.scenes(np.array([1]))[0].joints_rad, second.joints_rad)
    envs.close()
