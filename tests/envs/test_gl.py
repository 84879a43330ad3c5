"""MuJoCo's OpenGL: what is missing is named, with what to do."""

import importlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.core.opengl import LIBRARIES, is_installed
from nearer.envs.gl import missing_gl_error
from nearer.envs.tabletop.layout import BLOCKS
from nearer.envs.tabletop.simulation import Simulation
from nearer.envs.tabletop.tasks import draw_layout


def test_is_installed_some_backend_of_this_machine() -> None:
    assert any(map(is_installed, LIBRARIES))


@pytest.mark.parametrize(
    ("installed", "backend", "sentence"),
    [
        ((), "egl", "got no libEGL.so.1 .*; run: apt-get install libegl1 libgl1-mesa-dri, or"),
        ((), "", "got no libEGL.so.1 and no libOSMesa.so.8 .*; run: apt-get install"),
        (("egl",), "osmesa", r"got no libOSMesa.so.8 \(MUJOCO_GL='osmesa'\); unset MUJOCO_GL, or"),
        (("egl",), "glfw", "got no window .*; unset MUJOCO_GL, or make the env with images=False"),
    ],
)
def test_missing_gl_error_names_the_library_and_the_remedy(
    installed: tuple[str, ...], backend: str, sentence: str
) -> None:
    user_backend = backend if installed else ""
    error = missing_gl_error("no window", backend, user_backend, lambda name: name in installed)
    with pytest.raises(EnvError, match=sentence):
        raise error


def test_open_context_without_opengl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise AttributeError(f"no library for {name}")

    simulation = Simulation()
    simulation.reset(draw_layout(BLOCKS, np.random.default_rng(0)))
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(EnvError, match=r"images must have EGL or OSMesa.*apt-get install libegl1"):
        simulation.camera_image(17, 19)
    monkeypatch.undo()
    assert simulation.camera_image(17, 19).shape == (17, 19, 3)


def test_open_context_without_a_screen_prints_one_sentence() -> None:
    code = (
        "from nearer.envs.tabletop.env import Tabletop\n"
        "from nearer.core.errors import EnvError\n"
        "try: Tabletop().reset(seed=0)\n"
        "except EnvError as error: print(error)"
    )
    screenless = {**os.environ, "MUJOCO_GL": "glfw", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, env=screenless, capture_output=True, text=True, check=False)
    assert "images must have EGL or OSMesa, got " in process.stdout
    assert process.stdout.count("\n") == 1
    assert process.stderr == ""
