"""Settings of `nearer eval`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from nearer.configs.flags import Flat
from nearer.core.settings import check_settings
from nearer.fleets.env_settings import EnvSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """Measure a policy by the simulator's ground truth, on seeded starts.

    Attributes:
        checkpoint: a run, a checkpoint of it, or a model's hub id (user/name).
        env: Gymnasium id.
        episodes: starts.
        against: eval_info.json of another policy on the same starts, for a paired comparison.
        out: folder for eval_info.json; none: eval/ in the run, outputs/eval/ for a hub id.
        max_steps: control steps an episode may take.
        num_envs: simulators that run in lockstep.
        seed: of the starts; the same seed gives every policy the same ones.
        videos: starts that are filmed for the report, the first ones; 0 for none.
    """

    checkpoint: Path
    env: str
    episodes: int = 1000
    against: Path | None = None
    out: Path | None = None
    max_steps: int = 140
    num_envs: int = 250
    seed: int = 0
    videos: int = 6
    env_settings: Annotated[EnvSettings, Flat] = field(default_factory=EnvSettings)

    def __post_init__(self) -> None:
        check_settings(
            self,
            episodes="[1, inf)",
            max_steps="[1, inf)",
            num_envs="[1, inf)",
            seed="[0, inf)",
            videos="[0, inf)",
        )
