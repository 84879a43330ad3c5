"""What benchmarks measure of a device: time, memory, arithmetic operations and their peak rate."""

import gc
import resource
import statistics
from collections.abc import Callable
from time import perf_counter

import torch
from torch.utils.flop_counter import FlopCounterMode

_GIB = 1024**3


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_a_call(
    call: Callable[[], object], device: torch.device, at_least_s: float, most_calls: int = 100
) -> float:
    """Return the median time of a call, after one to warm up.

    Args:
        call: what is measured.
        device: it computes on.
        at_least_s: calls are repeated for so long.
        most_calls: but not more often.
    """
    call()
    synchronise(device)
    took: list[float] = []
    while sum(took) < at_least_s and len(took) < most_calls:
        started = perf_counter()
        call()
        synchronise(device)
        took.append(perf_counter() - started)
    return statistics.median(took)


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Return the operations a second of a product of two square matrices, two a multiplication."""
    first, second = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = seconds_a_call(lambda: first @ second, device, at_least_s=0.5)
    return 2 * side**3 / seconds


def flops_of(call: Callable[[], object]) -> int:
    """Return the operations of a call's matrix products, convolutions and attention.

    By torch's FlopCounterMode: backward passes and recomputed activations are counted too.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


class PeakMemory:
    """The most memory that was in use since this was made.

    On a GPU what torch allocated beyond what was allocated then; on a CPU the resident memory of
    the whole process since its start.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)

    @property
    def gib(self) -> float:
        """Return it in GiB."""
        if self._device.type == "cuda":
            return (torch.cuda.max_memory_allocated(self._device) - self._before) / _GIB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB
