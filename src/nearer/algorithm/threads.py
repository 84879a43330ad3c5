"""How many of torch's threads a model is worth.

torch splits an operation over its threads and waits for all of them. In a small network that wait
is longer than the work, and beside another busy process four times as long.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

_SMALL = 20_000_000
"""Parameters below which no operation is worth more than one thread."""
_whole_parts: list[int] = []
"""Threads for work in independent parts, while a model has fewer for its operations."""


@contextmanager
def threads_for(model: nn.Module) -> Generator[None, None, None]:
    """Compute each operation of a small model in one thread; a large one keeps torch's threads.

    Work that falls into independent parts (`pool_threads`) keeps all of them.
    """
    before = torch.get_num_threads()
    _whole_parts.append(pool_threads())
    torch.set_num_threads(threads_worth(model))
    try:
        yield
    finally:
        _whole_parts.pop()
        torch.set_num_threads(before)


def threads_worth(model: nn.Module) -> int:
    """Return how many of torch's threads a model's operations are worth."""
    is_small = sum(weights.numel() for weights in model.parameters()) < _SMALL
    return 1 if is_small else torch.get_num_threads()


def pool_threads() -> int:
    """Return how many threads may each compute a part of their own, such as some of the frames."""
    return _whole_parts[-1] if _whole_parts else torch.get_num_threads()
