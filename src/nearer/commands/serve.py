"""nearer serve: a policy behind openpi's websocket protocol."""

import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nearer.algorithm.model import FoundationModel
from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings
from nearer.evaluation.reward_model import RewardModel, load_reward_model
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model, pretrained_folder
from nearer.runs.run import written

if TYPE_CHECKING:
    from nearer.serving.server import PolicyServer

_TOKEN = re.compile(r"[\x21-\x7e]{16,200}")  # printable, no blanks: it stands in a header
_BYTES_A_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """Serve a policy to robots that speak openpi's websocket protocol.

    Attributes:
        checkpoint: run, a checkpoint of it, or a hub id; its policy acts.
        reward: run whose reward model tells steps-to-go; none: the checkpoint's own.
        threshold: s of done, control steps (chunks, if it acts in such); none: as calibrated.
        host: address to listen on; beyond this machine a token is needed.
        port: TCP port; 0: any free one.
        token_file: clients must send the token in this file; a new file gets a new one.
        seed: of the actions, with the connection's number.
        max_message_mb: megabytes of a message.
        max_rate: messages a second and connection; faster ones wait.
        max_robots: connections at a time.
        idle_s: seconds without a message, after which a connection is closed.
    """

    checkpoint: Path
    reward: Path | None = None
    threshold: float | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    seed: int = 0
    max_message_mb: float = 16.0
    max_rate: float = 100.0
    max_robots: int = 16
    idle_s: float = 600.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            port="[0, 65535]",
            seed="[0, inf)",
            max_message_mb="(0, 1000]",
            max_rate="(0, inf)",
            max_robots="[1, 1000]",
            idle_s="(0, inf)",
        )
        if self.threshold is not None:
            check_settings(self, threshold="[0, inf)")
        if self.token_file is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host must be an address of this machine alone unless a token is asked for, got "
                f"{self.host}; pass --token-file FILE, or leave --host out"
            )


def run_serve(config: ServeConfig, tell: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Args:
        config: settings.
        tell: says to people where to connect, and once the token if it is new.
    """
    server = server_of(config, tell)

    def ready(port: int) -> None:
        tell(f"{config.checkpoint} answers on ws://{_in_url(config.host)}:{port}, Ctrl-C stops it")

    server.run(config.host, config.port, ready)
    tell("stopped; robots that were connected were told so")


def server_of(config: ServeConfig, tell: Callable[[str], None] = print) -> "PolicyServer":
    """Return a server with its models loaded, ready to run.

    Raises:
        ConfigError: the extra is missing, or the token's file holds none.
        CheckpointError: no model is there, or its files are damaged.
    """
    with _needs_websockets():
        from nearer.serving.server import Limits, PolicyServer
        from nearer.serving.session import ServedPolicy
    token = server_token(config.token_file, tell)
    policy, judging = load_served(config)
    served = ServedPolicy(policy, judging.model, judging.threshold_steps, config.seed)
    limits = Limits(
        message_bytes=round(config.max_message_mb * _BYTES_A_MB),
        rate_hz=config.max_rate,
        robots=config.max_robots,
        idle_s=config.idle_s,
    )
    return PolicyServer(served, limits, token)


def load_served(config: ServeConfig) -> tuple[FoundationModel, RewardModel]:
    """Return the policy of a checkpoint and its judge; one model in memory where they are one.

    Raises:
        ConfigError: the judge reads other observations than the policy.
    """
    judging = load_reward_model(config.checkpoint, config.reward, config.threshold)
    folder = pretrained_folder(config.checkpoint, "policy")
    if folder.resolve() == judging.weights.resolve():
        return judging.model, judging
    policy = load_model(config.checkpoint, build_model, "policy").requires_grad_(False)
    mine, its = policy.spaces, judging.model.spaces
    reads = [(one.agent_pos, one.environment_state, one.cameras) for one in (mine, its)]
    if reads[0] != reads[1]:
        raise ConfigError(
            f"--reward must read what the policy reads, {mine}, got {its}; take it from a run on "
            "the same demonstrations"
        )
    return policy, judging


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address; a name may mean any, but localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def server_token(path: Path | None, tell: Callable[[str], None]) -> str | None:
    """Return the token of a file; a new one in a file of its owner's if there is none yet."""
    if path is None:
        return None
    if not path.exists():
        token = secrets.token_urlsafe(32)
        with written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as handle:
                handle.write(token + "\n")
        tell(f"a new token, kept in {path}: {token}")
        return token
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--token-file must be a file with a token, got {path}: {error}; name a new file, "
            "which gets a token"
        ) from error
    if not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"--token-file must hold 16 to 200 printable characters without blanks, got "
            f"{len(token)} in {path}; name a new file, which gets a token"
        )
    return token


@contextmanager
def _needs_websockets() -> Generator[None, None, None]:
    """Turn a missing extra into a sentence."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"nearer serve must have the packages websockets and msgpack, got: {error}; run "
            "pip install 'nearer[serve]'"
        ) from error
