"""Freed memory that the process keeps: no page faults when it is needed again."""

import platform
import subprocess
import sys

import pytest

from nearer.core.memory import keep_freed_memory

CODE = """
import resource
import numpy as np
from nearer.core.memory import keep_freed_memory

if {keeps}:
    assert keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    layers = [np.ones(1 << 20, np.uint8) for _ in range(20)]  # 256 pages each
    del layers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_keep_freed_memory_again_says_the_same() -> None:
    assert keep_freed_memory() == keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_keep_freed_memory_spares_page_faults() -> None:
    faults = [
        int(subprocess.check_output([sys.executable, "-c", CODE.format(keeps=keeps)], text=True))
        for keeps in (False, True)
    ]
    assert faults[0] > 4_000
    assert faults[1] < 500
