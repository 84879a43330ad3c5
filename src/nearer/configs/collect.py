"""Settings of `nearer collect`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nearer.configs.flags import NeededToStart
from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectConfig:
    """Collect demonstrations from an env and its scripted demonstrator.

    Attributes:
        env: Gymnasium id.
        episodes: demonstrations to try; those that fail or are too short are left out.
        out: new folder for the LeRobotDataset.
        max_steps: control steps an episode may take.
        min_observations: shorter episodes are left out.
        fps: control rate that the data set states, Hz; none: the env's, or 10 if it has none.
        num_envs: simulators that run in lockstep.
        seed: of starts and demonstrator.
        resume: continue the collection in --out, with the settings it has.
    """

    out: Path
    env: Annotated[str, NeededToStart] = ""
    episodes: int = 10_000
    max_steps: int = 140
    min_observations: int = 10
    fps: int | None = None
    num_envs: int = 64
    seed: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            episodes="[1, inf)",
            max_steps="[1, inf)",
            min_observations="[2, inf)",
            num_envs="[1, inf)",
            seed="[0, inf)",
        )
        if self.fps is not None:
            check_settings(self, fps="[1, inf)")
