"""The thread pool of a vectorised env."""

import threading

import pytest

from nearer.envs.tabletop.thread_pool import ThreadPool


@pytest.mark.parametrize("num_threads", [1, 3])
def test_for_each_calls_every_row_once(num_threads: int) -> None:
    pool = ThreadPool(num_threads)
    rows: list[int] = []
    pool.for_each(range(10), rows.append)
    assert sorted(rows) == list(range(10))
    pool.close()


def test_for_each_one_thread_stays_in_the_callers() -> None:
    threads: list[threading.Thread] = []
    ThreadPool(1).for_each([0], lambda row: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_for_each_error_is_raised_after_the_other_rows(num_threads: int) -> None:
    pool = ThreadPool(num_threads)
    finished: list[int] = []

    def work(row: int) -> None:
        if row == 1:
            raise ValueError("row 1")
        finished.append(row)

    with pytest.raises(ValueError, match="row 1"):
        pool.for_each([0, 1], work)
    assert finished == [0]
    pool.close()
