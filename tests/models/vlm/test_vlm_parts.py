"""Parts of pretrained models by hand-worked numbers: masks, positions, state scaling, stacking."""

import numpy as np
import pytest
import torch

from nearer.models.parallel import parallel_map
from nearer.models.vlm.attention_masks import (
    in_parts,
    shared_prefix_mask,
    split_columns,
    suffix_positions,
)
from nearer.models.vlm.state_scaling import state_range, unit_state
from nearer.models.vlm.vision_encoders import stacked


@pytest.mark.parametrize("both_ways", [False, True])
def test_shared_prefix_mask_of_two_suffixes_keeps_them_apart(both_ways: bool) -> None:
    """Prefix of 2, then suffixes of 2 and 1; the first suffix starts with padding."""
    first, second = torch.tensor([[False, True]]), torch.tensor([[True]])
    mask = shared_prefix_mask(2, [first, second], both_ways)
    expected = [
        [1, int(both_ways), 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert mask[0].int().tolist() == expected


def test_suffix_positions_of_left_padding_count_real_tokens() -> None:
    real = torch.tensor([[False, False, True, True], [True, True, True, True]])
    assert suffix_positions(real).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_split_columns_gives_each_shape_its_columns() -> None:
    parts = split_columns(torch.arange(8).reshape(2, 4), [(2, 1), (2,)])
    columns = [columns.tolist() for columns, _ in parts]
    assert columns == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    assert [shape for _, shape in parts] == [(2, 1), (2,)]


def test_rows_in_parts_without_gradients_equal_all_rows_at_once() -> None:
    values, slices = torch.arange(70.0), []

    def double(rows: slice) -> torch.Tensor:
        slices.append(rows)
        return 2 * values[rows]

    assert torch.equal(in_parts(double, 70), 2 * values)
    assert len(slices) == 1, "with gradients, one backward pass must cover all rows"
    with torch.no_grad():
        assert torch.equal(in_parts(double, 70), 2 * values)
    assert len(slices) > 2


def test_unit_state_of_the_quantiles_is_one_and_beyond_is_clipped() -> None:
    state = torch.linspace(0, 100, 101)[:, None].repeat(1, 2)
    state[:, 1] = 7.0
    low, high = state_range(state)
    assert low.tolist() == [1.0, 7.0]
    assert high.tolist() == [99.0, 8.0], "a constant component must not divide by zero"
    scaled = unit_state(torch.tensor([[1.0, 7.0], [50.0, 7.5], [1000.0, 8.0]]), low, high)
    assert scaled.tolist() == [[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]
    assert [limit.numel() for limit in state_range(torch.zeros(5, 0))] == [0, 0]


def test_stacked_encodings_start_with_the_previous_frame() -> None:
    first, second = np.float32([[1, 2]]), np.float32([[3, 4]])
    start = stacked(None, first, frames=2)
    assert start.tolist() == [[1, 2, 1, 2]]
    assert stacked(start, second, frames=2).tolist() == [[1, 2, 3, 4]]
    assert stacked(None, second, frames=1).tolist() == [[3, 4]]


def test_parallel_map_on_several_threads_keeps_the_order() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    results = parallel_map(lambda part: part * part, list(range(20)))
    torch.set_num_threads(before)
    assert results == [part * part for part in range(20)]
