"""Hidden layers that an instruction scales and shifts."""

import torch

from nearer.models.settings import SmallVLAConfig
from nearer.models.trunks import FilmTrunk, new_trunk

INPUTS = torch.tensor([[0.5, -1.0, 2.0, 1.0, 0.0]])  # the last two embed the instruction


def film() -> FilmTrunk:
    torch.manual_seed(0)
    trunk = new_trunk(SmallVLAConfig(hidden=4, word_width=2, conditioning="film"), width_in=5)
    assert isinstance(trunk, FilmTrunk)
    return trunk.eval()


def set_scales_and_shifts(trunk: FilmTrunk, *values: float) -> None:
    """Let every instruction give all units of a layer the same scale and shift."""
    last = trunk.scales_and_shifts[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(values).repeat_interleave(4))


def test_film_without_scales_and_shifts_is_two_layers() -> None:
    trunk = film()
    set_scales_and_shifts(trunk, 0, 0, 0, 0)
    expected = torch.relu(trunk.second(torch.relu(trunk.first(INPUTS[:, :3]))))
    assert torch.allclose(trunk(INPUTS), expected)


def test_film_scales_by_one_more_and_shifts_each_layer() -> None:
    trunk = film()
    set_scales_and_shifts(trunk, -1, 0.5, 1, -0.1)
    first = torch.full((1, 4), 0.5)  # whatever is seen is scaled by zero
    expected = torch.relu(2 * trunk.second(first) - 0.1)
    assert torch.allclose(trunk(INPUTS), expected)


def test_film_hears_the_instruction_and_concat_reads_it_as_any_input() -> None:
    trunk, other = film(), INPUTS.clone()
    other[0, 3:] = torch.tensor([0.0, 1.0])
    assert not torch.allclose(trunk(INPUTS), trunk(other))
    plain = new_trunk(SmallVLAConfig(hidden=4, word_width=2, dropout=0), width_in=5)
    assert plain(INPUTS).shape == (1, 4)
