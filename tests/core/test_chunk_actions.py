"""Decisions of several control steps: joined, split and counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nearer.core.action_chunks import Chunking
from nearer.core.arrays import Array
from nearer.core.chunk_actions import join_actions, split_decisions

FLOATS = st.floats(-8, 8, width=32)


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (3, 4, 2), elements=FLOATS), arrays(np.float32, (3, 2), elements=FLOATS))
def test_split_decisions_of_joined_actions_are_the_actions(actions: Array, joints: Array) -> None:
    absolute, relative = Chunking(chunk=4), Chunking(chunk=4, relative=True)
    decisions = join_actions(absolute, actions, joints)
    assert np.array_equal(split_decisions(absolute, decisions, joints), actions)
    again = split_decisions(relative, join_actions(relative, actions, joints), joints)
    np.testing.assert_allclose(again, actions, rtol=0, atol=16 * np.finfo(np.float32).eps)
    still = split_decisions(relative, np.zeros((3, 8), np.float32), joints)
    assert np.array_equal(still, np.repeat(joints[:, None], 4, axis=1))


@pytest.mark.parametrize(
    ("control_hz", "chunk", "rate"), [(10, 1, 10), (10, 5, 2), (50, 16, 3), (5, 20, 1)]
)
def test_decision_rate_is_a_whole_number_of_1_or_more(
    control_hz: int, chunk: int, rate: int
) -> None:
    assert Chunking(chunk=chunk).decision_rate(control_hz) == rate
