"""Threads that share the rows of a vectorised env.

MuJoCo's steps and pictures release Python's lock, so two threads do nearly twice the work of one.
Each row always belongs to the same thread: OpenGL contexts belong to threads, and no result
depends on how many there are.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor


class Crew:
    """A few threads, started when they first have something to do; one is the caller's own."""

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self._workers: list[ThreadPoolExecutor] = []

    def each(self, rows: Sequence[int], work: Callable[[int], None]) -> None:
        """Do the work for each row, side by side; the first fault is raised when all are done."""
        if self._num_threads == 1:
            _do(rows, work)
            return
        if not self._workers:
            self._workers = [
                ThreadPoolExecutor(max_workers=1, thread_name_prefix="tabletop")
                for _ in range(self._num_threads)
            ]
        futures: list[Future[None]] = [
            worker.submit(_do, [row for row in rows if row % self._num_threads == place], work)
            for place, worker in enumerate(self._workers)
        ]
        faults = [future.exception() for future in futures]
        for fault in filter(None, faults):
            raise fault

    def close(self, farewell: Callable[[], None]) -> None:
        """Let each thread do a last thing, and end it."""
        if self._num_threads == 1:
            farewell()
        for worker in self._workers:
            worker.submit(farewell).result()
            worker.shutdown()
        self._workers = []


def _do(rows: Sequence[int], work: Callable[[int], None]) -> None:
    for row in rows:
        work(row)
