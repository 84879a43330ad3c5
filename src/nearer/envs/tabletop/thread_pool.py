"""A thread pool for the physics of a vectorised env.

MuJoCo's steps release Python's lock, so two threads do nearly twice the work of one. Images are not
rendered by them: software OpenGL may not be used by two threads at once (renderer.py). No result
depends on the number of threads.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait


class ThreadPool:
    """Threads that are started when they first get work; none when one is enough."""

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self._executor = ThreadPoolExecutor(num_threads, "tabletop") if num_threads > 1 else None

    def for_each(self, rows: Sequence[int], work: Callable[[int], None]) -> None:
        """Call `work` with each row, in parallel; the first error is raised when all are done."""
        if self._executor is None:
            _work_through(rows, work)
            return
        parts = [rows[first :: self._num_threads] for first in range(self._num_threads)]
        futures = [self._executor.submit(_work_through, part, work) for part in parts]
        wait(futures)
        for future in futures:
            future.result()

    def close(self) -> None:
        """End the threads."""
        if self._executor is not None:
            self._executor.shutdown()


def _work_through(rows: Sequence[int], work: Callable[[int], None]) -> None:
    for row in rows:
        work(row)
