"""Settings of `nearer collect`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from nearer.configs.flags import Flat, NeededToStart
from nearer.core.settings import check_settings
from nearer.fleets.env_settings import EnvSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectConfig:
    """Collect demonstrations from an env and its scripted demonstrator, or a policy's episodes.

    Attributes:
        env: Gymnasium id.
        episodes: demonstrations to try; those that fail or are too short are left out.
        out: new folder for the LeRobotDataset.
        policy: a run, a checkpoint of it, or a hub id: its policy acts in place of the scripted
            demonstrator, and all its episodes are kept, unlabelled, for nearer adapt.
        max_steps: control steps an episode may take.
        min_observations: shorter episodes are left out.
        num_envs: simulators that run in lockstep.
        seed: of starts and demonstrator.
        resume: continue the collection in --out, with the settings it has.
    """

    out: Path
    policy: Path | None = None
    env: Annotated[str, NeededToStart] = ""
    episodes: int = 10_000
    max_steps: int = 140
    min_observations: int = 10
    num_envs: int = 64
    seed: int = 0
    resume: bool = False
    env_settings: Annotated[EnvSettings, Flat] = field(default_factory=EnvSettings)

    def __post_init__(self) -> None:
        check_settings(
            self,
            episodes="[1, inf)",
            max_steps="[1, inf)",
            min_observations="[2, inf)",
            num_envs="[1, inf)",
            seed="[0, inf)",
        )
