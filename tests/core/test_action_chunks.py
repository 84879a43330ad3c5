"""Decisions of several control steps: their units, limits and rates, and their actions."""

import numpy as np
import pytest

from nearer.core.action_chunks import PLAIN, Chunking
from nearer.core.chunk_actions import join_actions, split_decisions
from nearer.core.errors import ConfigError


def test_chunking_of_one_absolute_step_is_plain() -> None:
    assert PLAIN.is_plain
    assert PLAIN.unit == "steps"
    assert not Chunking(relative=True).is_plain
    assert not Chunking(chunk=2).is_plain
    assert Chunking(chunk=5).unit == "chunks of 5 steps"


def test_chunking_of_no_step_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--chunk must be 1 or more, got 0; the default is 1$"):
        Chunking(chunk=0)


def test_decisions_within_a_limit_leaves_out_a_part_of_a_chunk() -> None:
    counts = [Chunking(chunk=5).decisions_within(steps) for steps in (5, 9, 10, 14)]
    assert counts == [1, 1, 2, 2]


def test_decisions_within_less_than_a_chunk_is_refused() -> None:
    with pytest.raises(ConfigError, match="which is 5 control steps, got 4; raise --max-steps or"):
        Chunking(chunk=5).decisions_within(4)


def test_join_actions_of_two_steps_by_hand() -> None:
    actions = np.float32([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    joints = np.float32([[1, 1], [5, 0]])
    absolute = join_actions(Chunking(chunk=2), actions, joints)
    relative = join_actions(Chunking(chunk=2, relative=True), actions, joints)
    assert absolute.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert relative.tolist() == [[0, 1, 2, 3], [0, 6, 2, 8]]


def test_split_decisions_of_two_steps_by_hand() -> None:
    decisions, joints = np.float32([[0, 1, 2, 3]]), np.float32([[10, 20]])
    absolute = split_decisions(Chunking(chunk=2), decisions, joints)
    relative = split_decisions(Chunking(chunk=2, relative=True), decisions, joints)
    assert absolute.tolist() == [[[0, 1], [2, 3]]]
    assert relative.tolist() == [[[10, 21], [12, 23]]]
