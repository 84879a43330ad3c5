"""Flags of the form NAME=NEW_NAME."""

import pytest

from nearer.core.errors import ConfigError
from nearer.core.renames import parse_renames


def test_parse_renames_of_pairs_are_names_and_new_names() -> None:
    pairs = ("image=observation.images.front", "observation/joint_position=agent_pos")
    assert parse_renames(pairs) == {
        "image": "observation.images.front",
        "observation/joint_position": "agent_pos",
    }
    assert parse_renames(()) == {}


@pytest.mark.parametrize("pair", ["image", "=front", "image=", "a=b=c", ""])
def test_parse_renames_of_something_else_is_refused(pair: str) -> None:
    with pytest.raises(ConfigError, match=f"--keys must be pairs NAME=NEW_NAME, got '{pair}'"):
        parse_renames([pair], "--keys")


@pytest.mark.parametrize("pairs", [("a=b", "a=c"), ("a=c", "b=c")])
def test_parse_renames_of_a_name_twice_is_refused(pairs: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="must give each name once"):
        parse_renames(pairs)
