"""Which values a setting may have."""

import math
from dataclasses import fields
from typing import Any

from nearer.core.errors import ConfigError


def check_settings(config: Any, prefix: str = "", **allowed: str) -> None:
    """Raise ConfigError unless these settings of a config lie in their intervals.

    NaN lies in none of them.

    Args:
        config: a frozen dataclass.
        prefix: of its flags on the command line, such as "mlp.".
        allowed: interval of each setting, as in "[0, 1)" or "(0, inf)".
    """
    for name, interval in allowed.items():
        value = getattr(config, name)
        if not _inside(value, interval):
            flag = f"--{prefix}{name}".replace("_", "-")
            default = next(field.default for field in fields(config) if field.name == name)
            raise ConfigError(
                f"{flag} must {_rule(interval)}, got {value}; the default is {default}"
            )


def _inside(value: float, interval: str) -> bool:
    low, high = map(float, interval[1:-1].split(", "))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below


def _rule(interval: str) -> str:
    low, high = interval[1:-1].split(", ")
    if not math.isinf(float(high)):
        return f"lie in {interval}"
    return f"be {low} or more" if interval[0] == "[" else f"be a finite number above {low}"
