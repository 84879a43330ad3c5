"""Settings of `nearer eval-reward`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from nearer.configs.flags import Flat
from nearer.configs.folders import beside
from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings
from nearer.evaluation.baseline_settings import BaselineSettings
from nearer.fleets.env_settings import EnvSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRewardConfig:
    """Measure a checkpoint's steps-to-go, and the success detector on it, on labelled episodes.

    Attributes:
        checkpoint: a run of nearer sft, or a checkpoint of it, whose reward model is measured.
        data: data sets of demonstrations, and practice/ folders of runs.
        env: Gymnasium id to label by ground truth: fresh rollouts, and practice replayed.
        policy: run whose policy makes the rollouts; none: the checkpoint's.
        rollouts: episodes of the policy, each to its time limit; 0 for none.
        rollout_steps: control steps of each.
        episodes: of each data set, at most, drawn at random.
        min_precision: fraction of detections to be right.
        demonstrations: data set that the checkpoint was trained on; none: where its run says.
        baseline_updates: gradient updates of each baseline; 0 for no baselines.
        baseline_seeds: each baseline is trained so many times.
        baselines: size and optimiser of the baselines.
        seed: of starts and draws; another one than training used, or starts are not new.
        out: folder for reward_report.json and .md; none: eval_reward/ in the checkpoint, or in
            outputs/ if that is on the hub.
        cache: folder of decoded frames, features, rollouts and predictions; none: ~/.cache/nearer.
    """

    checkpoint: Path
    data: tuple[str, ...] = ()
    env: str | None = None
    policy: Path | None = None
    rollouts: int = 200
    rollout_steps: int = 140
    episodes: int = 300
    min_precision: float = 0.9
    demonstrations: str | None = None
    baseline_updates: int = 1500
    baseline_seeds: int = 3
    baselines: BaselineSettings = field(default_factory=BaselineSettings)
    seed: int = 1000
    out: Path | None = None
    cache: Path | None = None
    env_settings: Annotated[EnvSettings, Flat] = field(default_factory=EnvSettings)

    def __post_init__(self) -> None:
        check_settings(
            self,
            rollouts="[0, inf)",
            rollout_steps="[1, inf)",
            episodes="[1, inf)",
            min_precision="(0, 1]",
            baseline_updates="[0, inf)",
            baseline_seeds="[1, inf)",
            seed="[0, inf)",
        )
        if not self.data and not (self.env and self.rollouts):
            raise ConfigError(
                "nearer eval-reward must have labelled episodes, got none; pass --data DATASET, or "
                "--env ID for rollouts labelled by the simulator"
            )

    @property
    def folder(self) -> Path:
        """Return where the results go."""
        return self.out or beside(self.checkpoint, "eval_reward")
