"""Threads that share the physics of a vectorised env.

MuJoCo's steps release Python's lock, so two threads do nearly twice the work of one. Pictures are
no work for them: software OpenGL may not be used by two threads at once (`pictures.py`). No result
depends on how many threads there are.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait


class Crew:
    """A few threads, started when they first have something to do."""

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, "tabletop") if num_threads > 1 else None

    def each(self, rows: Sequence[int], work: Callable[[int], None]) -> None:
        """Do the work for each row, side by side; the first fault is raised when all are done."""
        if self._pool is None:
            _do(rows, work)
            return
        parts = [rows[first :: self._num_threads] for first in range(self._num_threads)]
        futures = [self._pool.submit(_do, part, work) for part in parts]
        wait(futures)
        for future in futures:
            future.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def _do(rows: Sequence[int], work: Callable[[int], None]) -> None:
    for row in rows:
        work(row)
