"""How many cores this process may use."""

import os
import subprocess
import sys

import pytest

from nearer.core.cpu import num_cores


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
