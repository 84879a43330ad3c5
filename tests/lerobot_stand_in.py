"""A lerobot without hardware, which tests put on the path (tests/data/lerobot_stand_in)."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

STAND_IN = Path(__file__).parent / "data/lerobot_stand_in"


@contextmanager
def lerobot_without_hardware() -> Generator[None, None, None]:
    """Let `import lerobot` find the stand-in, and forget it afterwards."""
    _forget()
    sys.path.insert(0, str(STAND_IN))
    try:
        yield
    finally:
        sys.path.remove(str(STAND_IN))
        _forget()


def _forget() -> None:
    for module in [name for name in sys.modules if name.split(".")[0] in ("lerobot", "draccus")]:
        del sys.modules[module]
