"""Images of the tabletop."""

import os
import threading

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import SIM
from nearer.envs.tabletop.layout import BLOCKS
from nearer.envs.tabletop.mujoco_model import OBSERVATION_QUALITY
from nearer.envs.tabletop.renderer import Renderer, shared_renderer
from nearer.envs.tabletop.tasks import draw_layout


def coordinates(seed: int) -> Array:
    layout = draw_layout(BLOCKS, np.random.default_rng(seed))
    return np.concatenate([layout.poses.ravel(), layout.effector])


def test_render_is_a_function_of_the_coordinates() -> None:
    renderer = Renderer(BLOCKS, SIM, OBSERVATION_QUALITY, 24, 32)
    first, other, again = (renderer.render(coordinates(seed)) for seed in (0, 1, 0))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    renderer.close()


def test_render_after_close_opens_a_new_context() -> None:
    renderer = Renderer(BLOCKS, SIM, OBSERVATION_QUALITY, 24, 32)
    before = renderer.render(coordinates(0))
    renderer.close()
    assert np.array_equal(renderer.render(coordinates(0)), before)
    renderer.close()


def test_render_in_another_thread_gives_the_same_image() -> None:
    renderer = Renderer(BLOCKS, SIM, OBSERVATION_QUALITY, 24, 32)
    images = [renderer.render(coordinates(0))]

    def work() -> None:
        images.append(renderer.render(coordinates(0)))
        renderer.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert np.array_equal(images[0], images[1])
    renderer.close()


def test_shared_renderer_equal_arguments_give_one_renderer() -> None:
    first, second, other = (
        shared_renderer(BLOCKS, SIM, OBSERVATION_QUALITY, 24, width) for width in (32, 32, 33)
    )
    assert first is second
    assert first is not other


def test_render_in_a_forked_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer(BLOCKS, SIM, OBSERVATION_QUALITY, 24, 32)
    renderer.render(coordinates(0))
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    with pytest.raises(EnvError, match=r"forked after the first image.*forkserver"):
        renderer.render(coordinates(0))
