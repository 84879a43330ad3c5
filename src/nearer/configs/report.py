"""Settings of `nearer report`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from nearer.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """Write one self-contained HTML page about runs.

    Attributes:
        runs: folders of runs, Stage 1 first.
        out: the page; none: report.html beside the last run.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError(
                "the runs must be one folder or more, got none; pass nearer report RUN RUN"
            )
