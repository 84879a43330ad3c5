"""What fits into memory, and how this process's allocator treats memory that is freed."""

import ctypes
import os

from nearer.core.errors import ConfigError, NearerError

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of mallopt's parameters. Source: glibc, malloc/malloc.h."""
_GIB = 1 << 30
_KEPT_BYTES = 1 << 30
_PAD_BYTES = 64 << 20


def check_fits(
    num_bytes: int, what: str, advice: str, error: type[NearerError] = ConfigError
) -> None:
    """Raise an error if something takes more memory than this machine has.

    Args:
        num_bytes: an estimate, rather too low than too high.
        what: takes it, for people.
        advice: what to do; ends the sentence.
        error: its kind.
    """
    try:
        there = memory_bytes()
    except (OSError, ValueError):  # a system that does not say
        return
    if num_bytes > there:
        raise error(
            f"the memory must hold about {num_bytes / _GIB:,.0f} GiB for {what}, got "
            f"{there / _GIB:,.0f} GiB in this machine; {advice}"
        )


def keep_freed_memory() -> bool:
    """Let the allocator keep up to 1 GiB that is freed, and return whether it can.

    Every layer of a network frees what the next one needs again. glibc hands blocks of more than
    128 KiB back to the system at once, and the next page that is touched is a page fault: 1,500 a
    frame of the larger built-in network, an eighth of its time. Results keep their bits.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not glibc: musl, macOS, Windows
        return False
    settings = (
        (_TRIM_THRESHOLD, _KEPT_BYTES),
        (_MMAP_THRESHOLD, _KEPT_BYTES),
        (_TOP_PAD, _PAD_BYTES),
    )
    return all(bool(mallopt(name, size)) for name, size in settings)


def memory_bytes() -> int:
    """Return the size of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
