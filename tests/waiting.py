"""Wait for what another thread or process does."""

import time
from collections.abc import Callable

_LIMIT_S = 10.0


def until(holds: Callable[[], object]) -> None:
    """Return once this holds."""
    end = time.monotonic() + _LIMIT_S
    while not holds():
        assert time.monotonic() < end, f"it did not happen within {_LIMIT_S:.0f} s"
        time.sleep(0.01)
