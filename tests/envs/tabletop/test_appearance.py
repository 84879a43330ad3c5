"""The two appearances."""

import pytest

from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import APPEARANCES, REAL, SIM, appearance_named
from nearer.envs.tabletop.layout import BLOCKS


def test_appearance_named_known_name_is_that_appearance() -> None:
    assert [appearance_named(name) for name in ("sim", "real")] == [SIM, REAL]


def test_appearance_named_unknown_name_is_refused() -> None:
    with pytest.raises(EnvError, match="appearance must be sim or real, got 'photo'"):
        appearance_named("photo")


@pytest.mark.parametrize("name", APPEARANCES)
def test_appearance_has_a_colour_for_every_block(name: str) -> None:
    colours = APPEARANCES[name].colours
    assert colours.keys() == {block.colour for block in BLOCKS}
    assert all(0 <= value <= 1 for colour in colours.values() for value in colour)
