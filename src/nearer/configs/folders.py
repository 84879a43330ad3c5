"""Where a command writes unless --out says so."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from nearer.core.errors import ConfigError

OUTPUTS = Path("outputs")
"""The default of --out: the command makes a folder of its own in it."""


@runtime_checkable
class WritesFolder(Protocol):
    """A config whose command makes a new folder, unless --out names one."""

    @property
    def out(self) -> Path:
        """Return the folder, or `OUTPUTS` for a new one in it."""
        ...

    @property
    def folder_name(self) -> str:
        """Return what a new folder is named after."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A config of a run that --resume continues."""

    @property
    def out(self) -> Path:
        """Return the run's folder."""
        ...

    @property
    def resume(self) -> bool:
        """Tell whether the run in `out` is continued."""
        ...


def placed(config: Any, command: str) -> Any:
    """Return the config with a new folder, unless --out named one.

    The folder is outputs/COMMAND/DATE/TIME_NAME.

    Raises:
        ConfigError: `--resume` without the folder of the run that is continued.
    """
    if not isinstance(config, WritesFolder) or config.out != OUTPUTS:
        return config
    if isinstance(config, Resumable) and config.resume:
        raise ConfigError("--resume must come with the run's folder, got none; pass --out RUN")
    folder = datetime.now().strftime(f"%Y-%m-%d/%H-%M-%S_{config.folder_name}")
    return replace(cast(Any, config), out=OUTPUTS / command / folder)


def beside(checkpoint: Path, what: str) -> Path:
    """Return where what is measured of a checkpoint is kept: with it, unless it is on the hub."""
    if checkpoint.exists():
        return checkpoint / what
    return OUTPUTS / what / "_".join(checkpoint.parts)
