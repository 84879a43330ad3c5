"""Settings of `nearer reproduce`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from nearer.core.errors import ConfigError
from nearer.core.intervals import MOST_SEEDS
from nearer.core.settings import check_settings

StudyName = Literal[
    "headline", "pretraining", "transfer", "banana", "real2sim", "aloha", "metaworld"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceConfig:
    """Reproduce a result of the paper at our size; hours, resumable.

    Attributes:
        which: headline: little data and practice; pretraining: reward and policy by pretraining;
            transfer: to other instructions; banana: a new object; real2sim: to another look;
            aloha: two arms; metaworld: three tasks of another simulator.
        list: say what there is, how long it takes here and what is done, and run nothing.
        out: folder for data, runs and results, the same for all of these.
        demonstrations: of the whole data set, tried.
        fractions: percent of it that Stage 1 learns from.
        seeds: of everything that is drawn and trained, one whole series each.
        practice_steps: control steps that each policy practises at most.
        algorithm_1_steps: the same without deviations from algorithm 1, of the smallest fraction.
        episodes: test starts, the same for every policy.
        few: demonstrations of one fraction more, for Stage 1 of pretraining alone; 0: none.
        objective_updates: gradient updates of the vision encoder through both objectives, in every
            variant of pretraining.
        demonstrators: folder of the scripts that record metaworld's demonstrations, in nearer's
            repository.
        quick: minutes, to see that the parts fit; learns little.
    """

    which: tyro.conf.Positional[StudyName | Literal["all"]] = "headline"
    out: Path = Path("outputs/reproduce")
    demonstrations: int = 2000
    fractions: tuple[int, ...] = (10, 20, 80)
    seeds: tuple[int, ...] = (0, 1, 2)
    practice_steps: int = 20_000
    algorithm_1_steps: int = 64_000
    episodes: int = 300
    few: int = 50
    objective_updates: int = 300
    demonstrators: Path = Path("examples/demonstrators")
    quick: bool = False
    list: bool = False

    def __post_init__(self) -> None:
        check_settings(
            self,
            demonstrations="[20, inf)",
            practice_steps="[1, inf)",
            algorithm_1_steps="[1, inf)",
            episodes="[1, inf)",
            objective_updates="[0, inf)",
        )
        if self.few:
            check_settings(self, few="[2, inf)")
        if len(self.seeds) > MOST_SEEDS:
            raise ConfigError(
                f"--seeds must be at most {MOST_SEEDS}, which the interval over seeds is known "
                f"for, got {len(self.seeds)}; run more in another --out"
            )
        wrong = [fraction for fraction in self.fractions if not 0 < fraction <= 100]
        if wrong or not self.fractions or not self.seeds:
            raise ConfigError(
                "--fractions must be percent in (0, 100] and --seeds one or more, got "
                f"{self.fractions} and {self.seeds}; the paper's fractions are 10 20 80"
            )
