"""Settings of `nearer watch`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from nearer.configs.serve import is_loopback
from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings

PORT = 8137


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """Watch and stop the robots of a run, on a page in the browser.

    Attributes:
        run: folder of nearer improve.
        host: address to listen on; beyond this machine only with --names.
        names: what browsers call this machine, such as lab-pc; others are refused.
        port: TCP port; 0: any free one.
    """

    run: tyro.conf.Positional[Path]
    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    port: int = PORT

    def __post_init__(self) -> None:
        check_settings(self, port="[0, 65535]")
        if not is_loopback(self.host) and not self.names:
            raise ConfigError(
                f"--host must be an address of this machine alone, got {self.host}; pass --names "
                "with what browsers call this machine, or leave --host out"
            )
