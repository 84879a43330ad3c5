"""How many cores this process may use, and with which priority."""

import os
import subprocess
import sys
import threading

import pytest

from nearer.core.cpu import give_way, num_cores, own_scheduling


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process")
def test_num_cores_of_a_process_bound_to_one_core_is_one() -> None:
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{core}}}); "
        "from nearer.core.cpu import num_cores; print(num_cores())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert printed.stdout == "1\n"


def test_num_cores_where_the_system_does_not_say_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert num_cores() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert num_cores() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="the system has no such policies")
def test_own_scheduling_undoes_what_a_library_did() -> None:
    code = (
        "import os; from nearer.core.cpu import own_scheduling\n"
        "with own_scheduling(): os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
        "print(os.sched_getscheduler(0) == os.SCHED_OTHER)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert printed.stdout == "True\n"


def test_own_scheduling_where_the_system_has_none_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getscheduler", raising=False)
    with own_scheduling():
        pass


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere threads have no niceness of their own"
)
def test_a_thread_that_gives_way_leaves_the_others_as_they_were() -> None:
    nice: list[int] = []

    def write() -> None:
        give_way()
        nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    writer = threading.Thread(target=write)
    writer.start()
    writer.join()
    assert nice[0] >= max(10, before)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
