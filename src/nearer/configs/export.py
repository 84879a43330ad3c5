"""Settings of `nearer export`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from nearer.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """Write episodes with their steps-to-go distribution as a rerun recording.

    Attributes:
        source: run (its practice, or what it learned from), data set, or a data set's hub id.
        out: file, FILE.rrd; open it with: rerun FILE.rrd.
        episodes: rows of the data set; none: the first ten.
        model: run whose reward says d; none: as practised, or the Stage-1 run itself.
    """

    source: tyro.conf.Positional[Path]
    out: Path
    episodes: tuple[int, ...] = ()
    model: Path | None = None

    def __post_init__(self) -> None:
        if self.out.suffix != ".rrd":
            raise ConfigError(f"--out must end in .rrd, got {self.out}; pass --out FILE.rrd")
