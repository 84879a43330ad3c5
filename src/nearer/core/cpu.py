"""How many cores there are to share work among."""

import os


def num_cores() -> int:
    """Count the cores that this process may use; where a system does not say, all it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
