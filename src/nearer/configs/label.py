"""Settings of `nearer label`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nearer.configs.flags import Renames
from nearer.core.renames import parse_renames
from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConfig:
    """Write what a frozen model says of every frame beside a data set.

    Attributes:
        data: folder of a LeRobotDataset v3.0, or its hub id (user/name).
        model: run, a checkpoint of it, or a hub id; its reward model says steps-to-go.
        out: parquet file for the labels; none: nearer_progress/ in the data set.
        overwrite: replace labels that are there.
        threshold: s of success, control steps (chunks, if trained on such); none: as calibrated.
        discount: of the returns, a control step.
        revision: of the hub's data set.
        rename: features to read under other names, as image=observation.images.front.
        cache: folder of the vision encoder's features; none: ~/.cache/nearer.
    """

    data: tyro.conf.Positional[str]
    model: Path
    out: Path | None = None
    overwrite: bool = False
    threshold: float | None = None
    discount: float = 0.9
    revision: str | None = None
    rename: Annotated[tuple[str, ...], Renames] = ()
    cache: Path | None = None

    def __post_init__(self) -> None:
        parse_renames(self.rename)
        check_settings(self, discount="[0, 1]")
        if self.threshold is not None:
            check_settings(self, threshold="[0, inf)")
