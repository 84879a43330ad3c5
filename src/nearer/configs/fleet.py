"""Settings of where the robots of `nearer improve` act."""

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from nearer.core.cpu import num_cores
from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings
from nearer.fleets.actors.faults import FaultPlan

FleetName = Literal["lockstep", "processes", "ray"]
FleetChoice = Literal["auto", "lockstep", "processes", "ray"]
FLEETS: tuple[str, ...] = get_args(FleetName)
_OF_FLEETS: dict[str, tuple[FleetChoice, ...]] = {
    "processes": ("processes",),
    "robots": ("ray",),
    "address": ("ray",),
    "policy": ("processes", "ray"),
    "max_staleness": ("processes", "ray"),
    "hz": ("processes", "ray"),
    "decide_ahead": ("processes", "ray"),
    "background_check": ("processes", "ray"),
    "faults": ("processes", "ray"),
}
"""Which fleets each setting is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """Robots in processes of their own.

    Attributes:
        processes: processes that share the robots; none: one a core.
        robots: robots of a Ray cluster, in place of --num-envs: an actor each.
        address: of the Ray cluster, auto on one of its nodes; none: one is started here.
        policy: local: a copy of the models in each process; served: one server answers all.
        max_staleness: updates that weights may be old; 1: robots act during updates.
        hz: control rate that simulators keep, as robots do; none: as fast as they can.
        decide_ahead: control steps before a chunk's end at which the next is decided.
        background_check: the detector never makes a robot wait; an episode ends a check late.
        faults: when a robot counts as faulty.
    """

    processes: int | None = None
    robots: int | None = None
    address: str | None = None
    policy: Literal["local", "served"] = "local"
    max_staleness: int = 0
    hz: float | None = None
    decide_ahead: int = 0
    background_check: bool = False
    faults: FaultPlan = field(default_factory=FaultPlan)

    def __post_init__(self) -> None:
        if self.processes is not None:
            check_settings(self, prefix="fleet.", processes="[1, inf)")
        if self.robots is not None:
            check_settings(self, prefix="fleet.", robots="[1, inf)")
        if self.hz is not None:
            check_settings(self, prefix="fleet.", hz="(0, inf)")
        check_settings(self, prefix="fleet.", max_staleness="[0, 1]", decide_ahead="[0, inf)")

        for name in ("max_staleness", "background_check", "decide_ahead"):
            if getattr(self, name) and self.policy == "served":
                raise ConfigError(
                    f"--fleet.{name.replace('_', '-')} must go with --fleet.policy local, got "
                    "served, whose server has one version and answers one question of an actor at "
                    "a time; leave one of them out"
                )

    def check_used(self, fleet: FleetChoice) -> None:
        """Raise ConfigError for settings of another fleet."""
        unset = FleetSettings()
        for name, fleets in _OF_FLEETS.items():
            if getattr(self, name) != getattr(unset, name) and fleet not in fleets:
                wanted = " or ".join(f"--fleet {other}" for other in fleets)
                raise ConfigError(
                    f"--fleet.{name.replace('_', '-')} must go with {wanted}, got --fleet {fleet}; "
                    f"add --fleet {fleets[0]}"
                )

    def resolved(self, fleet: FleetName, num_envs: int) -> "FleetSettings":
        """Return the settings with the number of processes: what a run is continued with."""
        if fleet != "processes":
            return self
        return replace(self, processes=min(self.processes or num_cores(), num_envs))


def resolved_fleet(fleet: FleetChoice, num_envs: int, *, renders: bool) -> FleetName:
    """Return which fleet a choice means: processes where images are rendered and cores are there.

    Args:
        fleet: as chosen.
        num_envs: robots.
        renders: the policy reads images.
    """
    if fleet != "auto":
        return fleet
    return "processes" if renders and min(num_envs, num_cores()) > 1 else "lockstep"
