"""Settings of `nearer improve`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated

import tyro

from nearer.algorithm.early_stopping import PlateauRule
from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.configs.flags import Flat, NeededToStart, Track, chosen, help_page
from nearer.configs.fleet import FLEETS, FleetChoice, FleetSettings
from nearer.configs.folders import OUTPUTS
from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings
from nearer.evaluation.audit_settings import AuditPlan
from nearer.fleets.env_settings import EnvSettings

_NUM_ENVS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ImproveConfig:
    """Stage 2: let a policy practise, with a frozen copy of the Stage-1 model as its reward.

    Attributes:
        run: Stage-1 run, or its hub id.
        reward: run whose reward model and calibration replace its own.
        env: Gymnasium id.
        out: a folder; outputs: outputs/improve/DATE/TIME_RUN.
        num_envs: robots, or simulators of them.
        fleet: lockstep: one process; settings: --fleet NAME --help.
        threshold: s, control steps (or chunks); none: as calibrated.
        track: shows metrics in tensorboard, wandb, trackio.
        resume: continue the run in --out, with the settings it has.
        watch: serve the console meanwhile, as nearer watch does.
    """

    out: Path = OUTPUTS
    run: Annotated[Path, NeededToStart] = Path()
    reward: Path | None = None
    env: Annotated[str, NeededToStart] = ""
    num_envs: int = _NUM_ENVS
    fleet: FleetChoice = "auto"
    threshold: float | None = None
    track: Track = ("tensorboard",)
    resume: bool = False
    watch: bool = False
    env_settings: Annotated[EnvSettings, Flat] = field(default_factory=EnvSettings)
    fleet_settings: Annotated[FleetSettings, tyro.conf.arg(name="fleet", help="")] = field(
        default_factory=FleetSettings
    )
    practice: Annotated[Practice, Flat] = field(default_factory=Practice)
    plateau: Annotated[PlateauRule, Flat] = field(default_factory=PlateauRule)
    audits: Annotated[AuditPlan, Flat] = field(default_factory=AuditPlan)
    deviate: Deviations = field(default_factory=Deviations)

    def __post_init__(self) -> None:
        robots = self.fleet_settings.robots
        if robots is not None and self.num_envs not in (_NUM_ENVS, robots):
            raise ConfigError(
                f"--fleet.robots must be all the robots of a Ray cluster, got {robots} and "
                f"--num-envs {self.num_envs}; leave --num-envs out"
            )
        if robots is not None:
            object.__setattr__(self, "num_envs", robots)
        check_settings(self, num_envs="[1, inf)")
        self.fleet_settings.check_used(self.fleet)
        if self.deviate.end_on_ground_truth and self.fleet_settings.policy == "served":
            raise ConfigError(
                "--deviate.end-on-ground-truth must go with --fleet.policy local, got served, "
                "whose server ends episodes by its detector; leave one of them out"
            )
        weighs = self.deviate.ppo_clip or self.deviate.importance_cap
        if self.fleet_settings.max_staleness and not weighs:
            deviate = replace(self.deviate, importance_cap=1.0)
            object.__setattr__(self, "deviate", deviate)
        practice = self.practice
        practice.check_room(self.num_envs)
        if self.threshold is not None and not 0 <= self.threshold <= practice.max_steps:
            raise ConfigError(
                f"--threshold must lie between 0 and the time limit of {practice.max_steps} "
                f"steps (--max-steps), got {self.threshold}; leave it out to use the calibrated one"
            )

    @property
    def folder_name(self) -> str:
        """Return what a new folder is named after: the Stage-1 run."""
        return self.run.name


def help_config(arguments: Sequence[str]) -> type:
    """Return what --help shows: the common settings, or those of the fleet in --fleet."""
    return _help_config(chosen("--fleet", arguments))


@cache  # tyro remembers classes by their address, so they must stay
def _help_config(fleet: str | None) -> type:
    others = {"practice", "plateau", "audits", "deviate"}
    return help_page(ImproveConfig, others if fleet in FLEETS else {"fleet_settings"})
