"""Which seeds were tried counts exactly as far as the episodes are on the disk."""

from pathlib import Path

import pytest

from nearer.core.errors import ConfigError, DatasetError
from nearer.datasets.attempts import ATTEMPTS, Attempts


def test_attempts_whose_episodes_never_reached_the_disk_are_forgotten(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, 0)
    attempts.note([7, 3], total_episodes=1)
    attempts.note([5], total_episodes=1)
    attempts.note([9, 2], total_episodes=3)
    assert attempts.seeds == {7, 3, 5, 9, 2}
    assert Attempts(tmp_path, 1).seeds == {7, 3, 5}
    assert Attempts(tmp_path, 1).seeds == {7, 3, 5}, "the last line is gone"


def test_attempts_of_other_episodes_are_refused(tmp_path: Path) -> None:
    Attempts(tmp_path, 0).note([7], total_episodes=1)
    with pytest.raises(DatasetError, match=r"how the 2 episodes of .* were tried, got 1; restore"):
        Attempts(tmp_path, 2)


def test_attempts_damaged_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / ATTEMPTS).write_text('{"seeds": [1, "two"], "total_episodes": 1}\n')
    with pytest.raises(ConfigError, match=r"attempts\.jsonl .*seeds\[1\] a whole number"):
        Attempts(tmp_path, 1)
