"""How many cores there are to share work among, and with which priority."""

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

_GIVES_WAY = 10  # niceness


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


def give_way() -> None:
    """Let everything else on the machine run first, a robot's control loop above all.

    On Linux that is said of the calling thread, and of those that it starts; elsewhere of none.
    """
    with suppress(OSError):  # where a sandbox does not let it, nothing changes
        if sys.platform == "linux":
            thread = threading.get_native_id()
            niceness = max(_GIVES_WAY, os.getpriority(os.PRIO_PROCESS, thread))
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
