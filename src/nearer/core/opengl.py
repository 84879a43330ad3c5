"""Which OpenGL MuJoCo renders with where there is no screen.

MuJoCo and dm_control read MUJOCO_GL when they are imported, and without it look for a screen.
"""

import ctypes
import os
import sys

LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
"""What each backend of MuJoCo loads."""


def is_installed(backend: str) -> bool:
    """Return whether the library of a backend can be loaded."""
    try:
        ctypes.CDLL(LIBRARIES[backend])
    except OSError:
        return False
    return True


def choose_backend() -> None:
    """Set MUJOCO_GL to what is installed, unless it is set: EGL, else OSMesa (10 % slower)."""
    if sys.platform == "linux" and "MUJOCO_GL" not in os.environ:
        for backend in filter(is_installed, LIBRARIES):
            os.environ["MUJOCO_GL"] = backend
            return
