"""Contract tests for your own env, fleet or model, and fakes to test loops with.

check_env("my/Env-v0")
check_fleet(make_fleet("my/Env-v0", 3))
check_model(my_model, my_inputs)

Each name is loaded when it is first used, so that a robot's machine checks its env without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearer.testing.env_contract import check_env
    from nearer.testing.env_report import EnvContractError, EnvReport, Finding, Severity
    from nearer.testing.fakes import CountingFleet, CountTermination, EchoPolicy
    from nearer.testing.fleet_contract import check_fleet
    from nearer.testing.model_contract import check_model

__all__ = [
    "CountTermination",
    "CountingFleet",
    "EchoPolicy",
    "EnvContractError",
    "EnvReport",
    "Finding",
    "Severity",
    "check_env",
    "check_fleet",
    "check_model",
]

_WHERE = {
    "CountTermination": "fakes",
    "CountingFleet": "fakes",
    "EchoPolicy": "fakes",
    "EnvContractError": "env_report",
    "EnvReport": "env_report",
    "Finding": "env_report",
    "Severity": "env_report",
    "check_env": "env_contract",
    "check_fleet": "fleet_contract",
    "check_model": "model_contract",
}
"""Public name -> module of this package."""


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562), and keep it."""
    if name not in _WHERE:
        raise AttributeError(
            f"module 'nearer.testing' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    value = getattr(import_module(f"nearer.testing.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
