"""Small models compute each operation in one thread; work in whole parts keeps all threads."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from nearer.algorithm import threads
from nearer.algorithm.threads import pool_threads, threads_for


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_a_small_model_takes_one_thread_and_gives_the_others_back() -> None:
    with threads_for(nn.Linear(4, 4)):
        assert torch.get_num_threads() == 1
        assert pool_threads() == 3
        with threads_for(nn.Linear(4, 4)):
            assert pool_threads() == 3
    assert torch.get_num_threads() == pool_threads() == 3


def test_a_large_model_keeps_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_SMALL", 16)
    with threads_for(nn.Linear(4, 4)):
        assert torch.get_num_threads() == pool_threads() == 3


def test_threads_are_given_back_after_an_error() -> None:
    with pytest.raises(ValueError, match="no"), threads_for(nn.Linear(4, 4)):
        raise ValueError("no")
    assert torch.get_num_threads() == pool_threads() == 3
