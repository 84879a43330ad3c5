"""Which values a setting may have, and the sentence about one that it may not."""

import math
from dataclasses import dataclass

import pytest

from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings


@dataclass(frozen=True)
class Options:
    """Two settings with defaults."""

    learning_rate: float = 0.1
    updates: float = 5


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", (0, 0.5, 1), (-1e-9, 1.1)),
        ("(0, 1)", (1e-9, 0.999), (0, 1)),
        ("[0, 1)", (0, 0.999), (1, -0.1)),
        ("(0, 1]", (1e-9, 1), (0, 2)),
        ("[1, inf)", (1, 1e12), (0, math.inf)),
        ("(0, inf)", (1e-12, 1e12), (0, math.inf)),
    ],
)
def test_check_settings_at_the_ends_of_an_interval_keeps_to_its_brackets(
    interval: str, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    for value in inside:
        check_settings(Options(updates=value), updates=interval)
    for value in (*outside, math.nan):
        with pytest.raises(ConfigError):
            check_settings(Options(updates=value), updates=interval)


@pytest.mark.parametrize(
    ("interval", "rule"),
    [
        ("[0, 1)", "lie in [0, 1)"),
        ("[1, inf)", "be 1 or more"),
        ("(0, inf)", "be a finite number above 0"),
    ],
)
def test_check_settings_names_flag_rule_value_and_default(interval: str, rule: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_settings(Options(learning_rate=-3), prefix="mlp.", learning_rate=interval)
    assert str(refused.value) == (f"--mlp.learning-rate must {rule}, got -3; the default is 0.1")


def test_check_settings_of_several_names_the_one_that_is_outside() -> None:
    with pytest.raises(
        ConfigError, match=r"^--updates must be 1 or more, got 0; the default is 5$"
    ):
        check_settings(Options(updates=0), learning_rate="(0, inf)", updates="[1, inf)")
