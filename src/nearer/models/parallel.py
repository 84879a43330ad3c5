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

Part = TypeVar("Part")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """Return `function` of each part, in order, computed in as many threads as torch may use."""
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        return [function(part) for part in parts]
    return list(_thread_pool(num_threads).map(function, parts))


@cache
def _thread_pool(num_threads: int) -> ThreadPoolExecutor:
    # Each worker calls torch.set_num_threads(1) once, so that operations are not split again.
    return ThreadPoolExecutor(num_threads, "nearer-encoder", torch.set_num_threads, (1,))
