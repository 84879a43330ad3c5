"""MuJoCo and its OpenGL context, for images without a screen, with or without a GPU.

MuJoCo reads MUJOCO_GL when it is imported, and without it looks for a screen. So every module here
imports `mujoco` from this one, which sets the variable first, unless the user did.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from nearer.core.errors import EnvError
from nearer.core.opengl import LIBRARIES, choose_backend, is_installed

_PACKAGES = "libegl1 libgl1-mesa-dri"
# what a missing library raises depends on the way in which it is missing
_LOADING_ERRORS = (ImportError, RuntimeError, AttributeError, OSError, TypeError)


_user_backend = os.environ.get("MUJOCO_GL", "")  # before `choose_backend` sets it


def missing_gl_error(
    cause: object, backend: str, user_backend: str, installed: Callable[[str], bool] = is_installed
) -> EnvError:
    """Return the error that says which library is missing, and what to do.

    Args:
        cause: what loading it raised or warned.
        backend: value of MUJOCO_GL when it was loaded; may be empty.
        user_backend: the same, before nearer chose one.
        installed: whether a backend's library can be loaded.
    """
    wanted = [backend] if backend in LIBRARIES else [] if backend else [*LIBRARIES]
    lacking = [LIBRARIES[name] for name in wanted if not installed(name)]
    got = f"no {' and no '.join(lacking)}" if lacking else f"{cause}"
    others = [name for name in LIBRARIES if name != backend and installed(name)]
    advice = "unset MUJOCO_GL" if user_backend and others else f"run: apt-get install {_PACKAGES}"
    return EnvError(
        f"images must have EGL or OSMesa, got {got} (MUJOCO_GL={backend!r}); {advice}, or make "
        "the env with images=False"
    )


def _without_gl(cause: object) -> EnvError:
    return missing_gl_error(cause, os.environ.get("MUJOCO_GL", ""), _user_backend)


def _import_mujoco() -> Any:
    choose_backend()
    # the software renderer's own threads cost small images more than they give
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        return importlib.import_module("mujoco")
    except _LOADING_ERRORS as error:
        raise _without_gl(error) from error


mujoco: Any = _import_mujoco()
"""The module; it has no types that a checker could read."""
Model = Any
"""mujoco.MjModel"""


@runtime_checkable
class GLContext(Protocol):
    """An OpenGL context of MuJoCo. Belongs to the thread that opened it."""

    def make_current(self) -> None:
        """Render with this context from now on."""
        ...

    def free(self) -> None:
        """Free it."""
        ...


def open_context(model: Model, height: int, width: int) -> tuple[GLContext, Any]:
    """Return a new OpenGL context, current in this thread, and MuJoCo's own part of it.

    Raises:
        EnvError: there is no library that makes one.
    """
    backend = os.environ.get("MUJOCO_GL", "egl" if sys.platform == "linux" else "")
    # MuJoCo may have been imported before MUJOCO_GL was set; so its own choice is not asked
    module = f"mujoco.{backend}" if backend in LIBRARIES else "mujoco"
    with warnings.catch_warnings(record=True) as warned:  # GLFW only warns where it has no screen
        try:
            context = importlib.import_module(module).GLContext(width, height)
            context.make_current()
            font = int(mujoco.mjtFontScale.mjFONTSCALE_50)
            return context, mujoco.MjrContext(model, font)
        except (*_LOADING_ERRORS, mujoco.FatalError) as error:
            raise _without_gl(warned[0].message if warned else error) from error
