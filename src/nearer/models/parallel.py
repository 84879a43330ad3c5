"""Batch parallelism over threads: a network's work on many frames in independent parts.

torch's own threads split every single operation and synchronise after it, which took four times as
long beside other work on the cores, and whose sums depend on the number of threads. Here each
thread computes whole parts alone: the same bits on any number of cores.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

from nearer.algorithm.threads import pool_threads

_FRAMES_PER_PART = 4  # larger batches leave the processor's cache: 16 took 1.3 times as long
_FRAMES_PER_PART_ON_DEVICE = 256  # an accelerator needs many frames at once to be busy
Part = TypeVar("Part")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return `function` of each part, in order, computed in as many threads as torch may use."""
    num_threads = pool_threads()
    if num_threads == 1:
        return [function(part) for part in parts]
    return list(_thread_pool(num_threads).map(function, parts))


def frames_in_parts(count: int, device: torch.device) -> list[slice]:
    """Return so many frames as the parts that an encoder computes best on a device."""
    size = _FRAMES_PER_PART if device.type == "cpu" else _FRAMES_PER_PART_ON_DEVICE
    return [slice(start, start + size) for start in range(0, count, size)]


@cache
def _thread_pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, "nearer-encoder", _use_one_thread)


def _use_one_thread() -> None:
    """Make torch split no operation of this worker thread."""
    torch.set_num_threads(1)
    # A thread takes the process's number at its first operation, which may have changed by then;
    # reading the number counts as one.
    torch.get_num_threads()
