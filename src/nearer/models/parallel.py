"""A network's work on many frames, shared among threads.

torch's own threads share each single operation and wait for each other after it, which took four
times as long beside other work on the cores, and whose sums depend on their number. Here each
thread does whole parts alone: the same bits on any number of cores.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Part = TypeVar("Part")
Made = TypeVar("Made")


def side_by_side(work: Callable[[Part], Made], parts: Sequence[Part]) -> list[Made]:
    """Return what `work` makes of each part, in order, in as many threads as torch may use."""
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        return [work(part) for part in parts]
    return list(_crew(num_threads).map(work, parts))


@cache
def _crew(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, "nearer-look", torch.set_num_threads, (1,))
