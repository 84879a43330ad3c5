"""Settings of `nearer demo`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tyro

from nearer.configs.folders import OUTPUTS
from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings

RecordedTask = Literal["pusht", "metaworld"]
"""A task of another simulator, whose demonstrations a script in examples/ records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """Run a whole recipe, small, on two CPU cores.

    Attributes:
        which: the tabletop (images and language), the point mass (states), or a task of another
            simulator (states).
        data: demonstrations of pusht or metaworld, as examples/demonstrators/ records them.
        out: folder for data, runs and report; outputs: a new one, outputs/demo/DATE/TIME_WHICH.
        episodes: demonstrations; none: as many as the domain's recipe says.
        seed: of everything that is trained or practised; the test starts stay the same.
        quick: a few seconds' worth of everything, to see that the parts fit; learns little.
    """

    which: tyro.conf.Positional[Literal["tabletop", "point-mass", "pusht", "metaworld"]] = (
        "tabletop"
    )
    data: Path | None = None
    out: Path = OUTPUTS
    episodes: int | None = None
    seed: int = 0
    quick: bool = False

    def __post_init__(self) -> None:
        check_settings(self, seed="[0, inf)")
        if self.episodes is not None:
            check_settings(self, episodes="[1, inf)")
        recorded = self.which in get_args(RecordedTask)
        if recorded and self.episodes is not None:
            raise ConfigError(
                f"--episodes must be left out with {self.which}, whose demonstrations are those of "
                f"--data, got {self.episodes}; give it to the script that records them instead"
            )
        if not recorded and self.data is not None:
            raise ConfigError(
                f"--data must be left out with {self.which}, which collects its own "
                f"demonstrations, got {self.data}; leave it out"
            )

    @property
    def folder_name(self) -> str:
        """Return what a new folder is named after: the domain."""
        return self.which
