"""The one door to MuJoCo and to its OpenGL: pictures without a screen, with or without a GPU.

MuJoCo reads MUJOCO_GL when it is imported, and without it looks for a screen. So every module here
takes `mujoco` from this one, which sets it first, unless the user did.
"""

import ctypes
import importlib
import os
import sys
import warnings
from typing import Any, Protocol, runtime_checkable

from nearer.core.errors import EnvError

_LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
_PACKAGES = "libegl1 libgl1-mesa-dri"
# what a missing library raises depends on the way in which it is missing
_FAULTS = (ImportError, RuntimeError, AttributeError, OSError, TypeError)


def _installed(backend: str) -> bool:
    try:
        ctypes.CDLL(_LIBRARIES[backend])
    except OSError:
        return False
    return True


def _choose_backend() -> None:
    """Set MUJOCO_GL to what is installed: EGL, else OSMesa, which is 10 % slower."""
    if sys.platform == "linux" and "MUJOCO_GL" not in os.environ:
        for backend in filter(_installed, _LIBRARIES):
            os.environ["MUJOCO_GL"] = backend
            return


_asked_for = os.environ.get("MUJOCO_GL", "")  # by the user, before we choose


def _without_gl(fault: object) -> EnvError:
    chosen = os.environ.get("MUJOCO_GL", "")
    wanted = [chosen] if chosen in _LIBRARIES else [] if chosen else [*_LIBRARIES]
    lacking = [_LIBRARIES[backend] for backend in wanted if not _installed(backend)]
    got = f"no {' and no '.join(lacking)}" if lacking else f"{fault}"
    others = [backend for backend in _LIBRARIES if backend != chosen and _installed(backend)]
    advice = "unset MUJOCO_GL" if _asked_for and others else f"run: apt-get install {_PACKAGES}"
    return EnvError(
        f"pictures must have EGL or OSMesa, got {got} (MUJOCO_GL={chosen!r}); {advice}, or make "
        "the env with pictures=False"
    )


def _import_mujoco() -> Any:
    _choose_backend()
    # the software renderer's own threads cost small pictures more than they give
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        return importlib.import_module("mujoco")
    except _FAULTS as fault:
        raise _without_gl(fault) from fault


mujoco: Any = _import_mujoco()
"""The module; it has no types that a checker could read."""
Model = Any
"""mujoco.MjModel"""


@runtime_checkable
class GLContext(Protocol):
    """What MuJoCo draws with. Belongs to the thread that opened it."""

    def make_current(self) -> None:
        """Draw with this one from now on."""
        ...

    def free(self) -> None:
        """Give it back."""
        ...


def open_context(model: Model, height: int, width: int) -> tuple[GLContext, Any]:
    """Return a new OpenGL context, current in this thread, and MuJoCo's own part of it.

    Raises:
        EnvError: there is no library that makes one.
    """
    backend = os.environ.get("MUJOCO_GL", "egl" if sys.platform == "linux" else "")
    # MuJoCo may have been imported before MUJOCO_GL was set; so its own choice is not asked
    chosen = f"mujoco.{backend}" if backend in _LIBRARIES else "mujoco"
    with warnings.catch_warnings(record=True) as said:  # GLFW only warns where it has no screen
        try:
            context = importlib.import_module(chosen).GLContext(width, height)
            context.make_current()
            font = int(mujoco.mjtFontScale.mjFONTSCALE_50)
            return context, mujoco.MjrContext(model, font)
        except (*_FAULTS, mujoco.FatalError) as fault:
            raise _without_gl(said[0].message if said else fault) from fault
