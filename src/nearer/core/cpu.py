"""How many cores there are to share work among, and with which priority."""

import os
from collections.abc import Generator
from contextlib import contextmanager


def num_cores() -> int:
    """Count the cores that this process may use; where a system does not say, all it has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def own_scheduling() -> Generator[None, None, None]:
    """Leave this thread scheduled as it was, whatever a library does in between.

    SVT-AV1 makes the thread that opens its encoder a real-time one where root runs it, and
    everything else on the machine waits, a robot's control loop included.
    """
    if not hasattr(os, "sched_getscheduler"):  # no such thing on this system
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if (os.sched_getscheduler(0), os.sched_getparam(0)) != (policy, parameters):
            os.sched_setscheduler(0, policy, parameters)
