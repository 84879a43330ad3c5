"""Demonstrations as a policy in action chunks learns from them."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nearer.algorithm.demonstrations import Demonstrations, chunked, decision_rows
from nearer.core.action_chunks import PLAIN, Chunking
from nearer.core.spaces import Spaces

SPACES = Spaces(agent_pos=1, environment_state=0, action=1)


def demonstrations(actions: list[list[float]], state: list[list[float]]) -> Demonstrations:
    """Return episodes of one joint; the action of an episode's last frame is not real."""
    lengths = [len(episode) for episode in actions]
    return Demonstrations(
        state=torch.tensor([[value] for episode in state for value in episode]),
        features=torch.zeros(sum(lengths), 0),
        actions=torch.tensor([[value] for episode in actions for value in episode]),
        steps_to_go=torch.cat([torch.arange(n).flip(0) for n in lengths]),
        episode_lengths=np.array(lengths),
        instructions=("go",) * len(lengths),
        spaces=SPACES,
    )


TWO_EPISODES = demonstrations(
    [[10.0, 11.0, 12.0, 99.0], [20.0, 21.0, 99.0]], [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0]]
)


def test_chunked_by_two_steps_equals_numbers_by_hand() -> None:
    in_chunks = chunked(TWO_EPISODES, Chunking(chunk=2))
    assert in_chunks.actions.tolist() == [
        [10, 11], [11, 12], [12, 12], [12, 12],
        [20, 21], [21, 21], [21, 21],
    ]  # fmt: skip
    assert in_chunks.steps_to_go.tolist() == [2, 1, 1, 0, 1, 1, 0]
    assert in_chunks.acted_frames().tolist() == TWO_EPISODES.acted_frames().tolist()
    assert (in_chunks.spaces.action, in_chunks.spaces.axes) == (2, 1)


def test_chunked_by_three_relative_steps_equals_numbers_by_hand() -> None:
    in_chunks = chunked(TWO_EPISODES, Chunking(chunk=3, relative=True))
    assert in_chunks.actions[:3].tolist() == [[9, 10, 11], [9, 10, 10], [9, 9, 9]]
    assert in_chunks.actions[4:6].tolist() == [[15, 16, 16], [15, 15, 15]]
    assert in_chunks.steps_to_go.tolist() == [1, 1, 1, 0, 1, 1, 0]


def test_decisions_are_every_so_many_frames_and_the_last() -> None:
    decided = chunked(TWO_EPISODES, Chunking(chunk=2)).decisions(2)
    assert decided.state.squeeze(1).tolist() == [1, 3, 4, 5, 7]
    assert decided.actions.tolist() == [[10, 11], [12, 12], [12, 12], [20, 21], [21, 21]]
    assert decided.steps_to_go.tolist() == [2, 1, 0, 1, 0]
    assert decided.episode_lengths.tolist() == [3, 2]
    assert decided.episodes(np.array([1])).state.squeeze(1).tolist() == [5, 7]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=4), st.integers(1, 6))
def test_decision_rows_keep_the_ends_of_every_episode(lengths: list[int], every: int) -> None:
    rows, counts = decision_rows(np.array(lengths), every)
    parts = np.split(rows, np.cumsum(counts)[:-1])
    starts = np.cumsum(lengths) - lengths
    for part, start, length in zip(parts, starts, lengths, strict=True):
        expected = sorted({*range(0, length, every), length - 1})
        assert (part - start).tolist() == expected


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=4), st.integers(1, 6))
def test_chunked_steps_to_go_fall_by_one_each_chunk(lengths: list[int], chunk: int) -> None:
    plain = demonstrations(
        [[float(100 * e + t) for t in range(n)] for e, n in enumerate(lengths)],
        [[0.0] * n for n in lengths],
    )
    in_chunks = chunked(plain, Chunking(chunk=chunk))
    acted = plain.acted_frames()
    assert torch.equal(in_chunks.actions[acted, :1], plain.actions[acted])
    whole = torch.nonzero(plain.steps_to_go >= chunk).squeeze(1)
    assert torch.equal(in_chunks.steps_to_go[whole + chunk], in_chunks.steps_to_go[whole] - 1)
    assert torch.equal(in_chunks.actions[whole].diff(dim=1), torch.ones(len(whole), chunk - 1))
    assert torch.equal(in_chunks.steps_to_go > 0, plain.steps_to_go > 0)


def test_chunked_by_one_control_step_changes_nothing() -> None:
    assert chunked(TWO_EPISODES, PLAIN) is TWO_EPISODES
