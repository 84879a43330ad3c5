"""Settings of where the robots of `nearer improve` act."""

from dataclasses import dataclass, replace
from typing import Literal

from nearer.core.cpu import num_cores
from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings

FleetName = Literal["lockstep", "processes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """Where robots act.

    Attributes:
        processes: processes that share the robots; none: one a core.
    """

    processes: int | None = None

    def __post_init__(self) -> None:
        if self.processes is not None:
            check_settings(self, prefix="fleet.", processes="[1, inf)")

    def check_used(self, fleet: FleetName) -> None:
        """Raise ConfigError for settings of another fleet."""
        if fleet == "lockstep" and self.processes is not None:
            raise ConfigError(
                "--fleet.processes must go with --fleet processes, got --fleet lockstep, whose "
                "robots act in one process; add --fleet processes"
            )

    def resolved(self, fleet: FleetName, num_envs: int) -> "FleetSettings":
        """Return the settings with the number of processes: what a run is continued with."""
        if fleet == "lockstep":
            return self
        return replace(self, processes=min(self.processes or num_cores(), num_envs))
