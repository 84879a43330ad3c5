"""Settings of `nearer serve`."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from nearer.configs.flags import Renames
from nearer.core.errors import ConfigError
from nearer.core.instructions import check_instruction
from nearer.core.renames import parse_renames
from nearer.core.settings import check_settings

ClientName = Literal["droid", "aloha"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """Serve a policy to robots that speak openpi's websocket protocol.

    Attributes:
        checkpoint: run, a checkpoint of it, or a hub id; its policy acts.
        reward: run whose reward model says steps-to-go; none: the checkpoint's own.
        threshold: s of done, control steps (chunks, if it acts in such); none: as calibrated.
        client: openpi's robot whose keys are read; none: nearer's own names.
        rename: a client's KEY read as NAME, such as agent_pos or a camera.
        resize: images of other sizes are stretched to the checkpoint's; else refused.
        instruction: of robots that send no prompt; none: they must.
        host: address to listen on; beyond this machine a token is needed.
        port: TCP port; 0: any free one.
        token_file: clients must send the token in this file; a new file gets a new one.
        seed: of the actions, with the connection's number.
        max_message_mb: megabytes of a message.
        max_rate: messages a second and connection; faster ones wait.
        max_robots: connections at a time.
        idle_s: seconds without a message, after which a connection is closed.
        answer_s: seconds in which a message is answered, if only by a sentence.
        reconnect_s: seconds in which a named robot finds its memory again after it left.
    """

    checkpoint: Path
    reward: Path | None = None
    threshold: float | None = None
    client: ClientName | None = None
    rename: Annotated[tuple[str, ...], Renames] = ()
    resize: bool = False
    instruction: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    seed: int = 0
    max_message_mb: float = 16.0
    max_rate: float = 100.0
    max_robots: int = 16
    idle_s: float = 600.0
    answer_s: float = 30.0
    reconnect_s: float = 60.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            port="[0, 65535]",
            seed="[0, inf)",
            max_message_mb="(0, 1000]",
            max_rate="(0, inf)",
            max_robots="[1, 1000]",
            idle_s="(0, inf)",
            answer_s="(0, inf)",
            reconnect_s="[0, inf)",
        )
        if self.threshold is not None:
            check_settings(self, threshold="[0, inf)")
        parse_renames(self.rename, joined=True)
        if self.instruction is not None:
            check_instruction(self.instruction)
        if self.token_file is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host must be an address of this machine alone unless a token is asked for, got "
                f"{self.host}; pass --token-file FILE, or leave --host out"
            )

    @property
    def renames(self) -> tuple[tuple[str, str], ...]:
        """Return key and name of every --rename."""
        return tuple(parse_renames(self.rename, joined=True).items())


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address; a name may mean any, but localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def in_url(host: str) -> str:
    """Return an address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
