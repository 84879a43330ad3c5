"""Settings of a tabletop env and options of a reset."""

from typing import Any

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import SIM
from nearer.envs.tabletop.env import Tabletop
from nearer.envs.tabletop.layout import BANANA, BLOCKS
from nearer.envs.tabletop.settings import BLOCK_FAMILIES, read_options, read_settings


def test_read_settings_nothing_given_is_the_plain_simulator() -> None:
    settings = read_settings()
    assert settings.appearance is SIM
    assert (settings.families, settings.blocks) == (BLOCK_FAMILIES, BLOCKS)
    assert settings.observation_space()["pixels"]["front"].shape == (96, 128, 3)


def test_read_settings_banana_is_alone_on_the_board() -> None:
    assert read_settings(families=("banana",)).blocks == (BANANA,)


def test_read_settings_blocks_come_by_name_or_as_values() -> None:
    assert read_settings(blocks=("blue cube", BLOCKS[0])).blocks == (BLOCKS[3], BLOCKS[0])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"appearance": "photo"}, "appearance must be sim or real, got 'photo'"),
        ({"control_hz": 20}, "control_hz must be 5 or 10, got 20"),
        ({"families": ("juggle",)}, "families must be a tuple of block2block"),
        ({"families": ("banana", "point")}, "families must be banana alone or without it"),
        ({"families": ()}, "families must be"),
        ({"families": ("banana",), "blocks": ("blue cube",)}, "blocks must be left out"),
        ({"blocks": ("pink cube",)}, "blocks must be different ones of red moon"),
        ({"blocks": ("blue cube", "blue cube")}, "blocks must be different ones"),
        ({"height": 0}, "must be at least one pixel, got 0 and 128"),
    ],
)
def test_tabletop_bad_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence):
        Tabletop(**settings)


def test_read_options_one_instruction_is_given_to_every_row() -> None:
    options = read_options({"instruction": "point at the star"}, num_rows=2)
    assert list(options.instructions) == ["point at the star"] * 2
    assert options.rows.tolist() == [True, True]
    assert not options.keep_board


def test_read_options_mask_and_instructions_come_one_a_row() -> None:
    mask = np.array([False, True])
    options = read_options({"reset_mask": mask, "instruction": [None, "go"]}, num_rows=2)
    assert options.rows.tolist() == [False, True]
    assert list(options.instructions) == [None, "go"]


def test_read_options_unknown_option_is_refused() -> None:
    with pytest.raises(EnvError, match=r"options must be of .*got \['keep_bord'\]"):
        read_options({"keep_bord": True})
