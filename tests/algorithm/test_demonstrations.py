"""Demonstrations: which frames belong to whom, in parts, left out, split and stacked."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nearer.algorithm.demonstrations import (
    Demonstrations,
    draw_fraction,
    frame_rows,
    leave_out,
    split_by_episode,
    split_episodes,
)
from nearer.core.errors import ConfigError
from nearer.core.spaces import Spaces

FRAMES = torch.arange(7)
DATA = Demonstrations(
    state=FRAMES[:, None].float(),
    features=10 * FRAMES[:, None].float(),
    actions=-FRAMES[:, None].float(),
    steps_to_go=torch.tensor([2, 1, 0, 1, 0, 1, 0]),
    episode_lengths=np.array([3, 2, 2]),
    instructions=("push", "pull", "lift"),
    spaces=Spaces(agent_pos=1, environment_state=0, action=1),
)
"""Episodes of 3, 2 and 2 frames; every number is that of its frame."""
STACKED = replace(DATA, stacked_rows=torch.tensor([[max(0, row - 1), row] for row in range(7)]))
"""The features of a frame are its own beside those of the frame before."""


def test_frame_rows_of_episodes_in_another_order_by_hand() -> None:
    assert frame_rows(np.array([4, 0]), np.array([2, 3])).tolist() == [4, 5, 0, 1, 2]


def test_episodes_in_another_order_take_their_frames_along() -> None:
    some = DATA.episodes(np.array([2, 0]))
    assert some.state.flatten().tolist() == [5, 6, 0, 1, 2]
    assert some.features.flatten().tolist() == [50, 60, 0, 10, 20]
    assert some.actions.flatten().tolist() == [-5, -6, 0, -1, -2]
    assert some.steps_to_go.tolist() == [1, 0, 2, 1, 0]
    assert some.episode_lengths.tolist() == [2, 3]
    assert some.instructions == ("lift", "push")


def test_episodes_of_stacked_features_copy_no_feature() -> None:
    some = STACKED.episodes(np.array([1]))
    assert some.features is STACKED.features
    assert some.inputs(slice(None)).features.tolist() == [[20, 30], [30, 40]]


@pytest.mark.parametrize("rows", [torch.tensor([6, 0, 3]), slice(1, 4)])
def test_inputs_of_some_frames_have_their_episodes_instructions(rows: torch.Tensor | slice) -> None:
    inputs = DATA.inputs(rows)
    frames = [int(state) for state in inputs.state[:, 0]]
    owners = ["push", "push", "push", "pull", "pull", "lift", "lift"]
    assert inputs.instructions == [owners[frame] for frame in frames]
    assert inputs.features[:, 0].tolist() == [10 * frame for frame in frames]


def test_statistics_of_stacked_features_leave_them_out() -> None:
    assert DATA.statistics().features.tolist() == DATA.features.tolist()
    assert STACKED.statistics().features.shape == (7, 0)
    assert STACKED.statistics().state.tolist() == DATA.state.tolist()


def test_acted_frames_are_all_but_the_last_of_each_episode() -> None:
    assert DATA.acted_frames().tolist() == [0, 1, 3, 5]


@pytest.mark.parametrize(("most", "sizes"), [(100, [7]), (3, [3, 3, 1]), (1, [1] * 7)])
def test_parts_cover_every_frame_once(most: int, sizes: list[int]) -> None:
    parts = [FRAMES[part] for part in STACKED.parts(most)]
    assert [len(part) for part in parts] == sizes
    assert torch.cat(parts).tolist() == FRAMES.tolist()


def test_parts_of_wide_features_gather_at_most_a_quarter_of_a_gigabyte() -> None:
    wide = replace(DATA, features=torch.zeros(1, 1).expand(7, 2**25))  # 128 MiB a frame
    assert [part.stop - part.start for part in wide.parts(100)] == [2, 2, 2, 1]


def test_draw_fraction_of_all_keeps_the_order_and_of_a_part_is_drawn_by_the_seed() -> None:
    assert draw_fraction(4, 1.0, seed=0).tolist() == [0, 1, 2, 3]
    drawn = draw_fraction(100, 0.3, seed=5)
    assert len(set(drawn.tolist())) == 30
    assert drawn.tolist() == draw_fraction(100, 0.3, seed=5).tolist()
    assert drawn.tolist() != draw_fraction(100, 0.3, seed=6).tolist()


def test_draw_fraction_of_a_smaller_part_is_the_beginning_of_a_larger_one() -> None:
    """So more data are the same demonstrations and further ones."""
    large, small = draw_fraction(100, 0.8, seed=5), draw_fraction(100, 0.1, seed=5)
    assert large[:10].tolist() == small.tolist()
    assert len(draw_fraction(3, 0.01, seed=0)) == 1


@pytest.mark.parametrize(
    ("phrases", "kept"),
    [
        (["blue moon"], [12]),
        (["Blue  MOON"], [12]),
        (["red"], [10, 11]),
        (["blue moon to", "red"], [11]),
        (["lue moon"], [10, 11, 12]),
    ],
)
def test_leave_out_compares_whole_words_in_any_case(phrases: list[str], kept: list[int]) -> None:
    episodes = np.array([10, 11, 12])
    instructions = ["push the blue moon to it", "push the Blue Moon", "push the red moon"]
    assert leave_out(episodes, instructions, phrases).tolist() == kept


def test_leave_out_of_a_phrase_that_all_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"got \['moon'\] which all 2 hold; leave fewer phrases"):
        leave_out(np.arange(2), ["push the moon", "lift the moon"], ["moon"])


def test_leave_out_without_a_phrase_keeps_all() -> None:
    assert leave_out(np.array([4, 2]), ["push", "pull"], []).tolist() == [4, 2]


@pytest.mark.parametrize(
    ("total", "val_fraction", "num_val"), [(10, 0.2, 2), (10, 0.01, 1), (10, 1.0, 9), (2, 0.5, 1)]
)
def test_split_episodes_leaves_no_part_empty(total: int, val_fraction: float, num_val: int) -> None:
    train, val = split_episodes(total, val_fraction, seed=0)
    assert len(val) == num_val
    assert sorted([*train, *val]) == list(range(total))


def test_split_episodes_of_one_episode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least 2 episodes, .* got 1; record more"):
        split_episodes(1, 0.5, seed=0)


def test_split_by_episode_has_no_episode_in_both_parts() -> None:
    train, val = split_by_episode(DATA, 0.4, seed=1)
    assert len(val.instructions) == 1
    assert {*train.instructions, *val.instructions} == {"push", "pull", "lift"}
    assert sorted([*train.state.flatten().tolist(), *val.state.flatten().tolist()]) == (
        FRAMES.tolist()
    )
