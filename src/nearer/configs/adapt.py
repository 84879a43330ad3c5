"""Settings of `nearer adapt`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nearer.configs.flags import Renames
from nearer.configs.folders import OUTPUTS
from nearer.core.renames import parse_renames
from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptConfig:
    """Adapt a trained model to another look of the scene, from unlabelled episodes.

    Attributes:
        run: with the policy, and the reward where it has one; small-vla's.
        data: episodes with the other look: folder of a LeRobotDataset v3.0, or its hub id.
        revision: of the hub's data set.
        rename: features to read under other names, as image=observation.images.front.
        out: folder for the model, laid out as on the hub; outputs: outputs/adapt/DATE/TIME_RUN.
        updates: gradient updates of the vision encoder; 0: only the map is fitted.
        episodes: of the data set that are read, at most; its first ones.
        cache: folder of decoded frames and features; none: ~/.cache/nearer.
        seed: of the updates' minibatches.
    """

    run: Path
    data: str
    out: Path = OUTPUTS
    revision: str | None = None
    rename: Annotated[tuple[str, ...], Renames] = ()
    updates: int = 300
    episodes: int = 200
    cache: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        parse_renames(self.rename)
        check_settings(self, updates="[0, inf)", episodes="[1, inf)", seed="[0, inf)")

    @property
    def folder_name(self) -> str:
        """Return what a new folder is named after: the run."""
        return self.run.name
