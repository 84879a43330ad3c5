"""nearer serve: a policy behind openpi's websocket protocol."""

import os
import re
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nearer.algorithm.model import FoundationModel
from nearer.configs.serve import ServeConfig
from nearer.core.errors import ConfigError
from nearer.evaluation.reward_model import RewardModel, load_policy_and_reward
from nearer.runs.files import disk_errors_as_sentences

if TYPE_CHECKING:
    from nearer.serving.server import PolicyServer

_TOKEN = re.compile(r"[\x21-\x7e]{16,200}")  # printable, no blanks: it stands in a header
_BYTES_A_MB = 1_000_000


def main(config: ServeConfig, console: Console) -> None:
    """Serve until Ctrl-C, and print where to connect."""
    run_serve(config, lambda line: console.print(line, soft_wrap=True, markup=False))


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
        answer_s=config.answer_s,
        reconnect_s=config.reconnect_s,
    )
    return PolicyServer(served, limits, token)


def load_served(config: ServeConfig) -> tuple[FoundationModel, RewardModel]:
    """Return policy and reward model of a checkpoint; one model in memory where they are one.

    Raises:
        ConfigError: the reward model reads other observations than the policy.
    """
    return load_policy_and_reward(config.checkpoint, config.reward, config.threshold)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def server_token(path: Path | None, tell: Callable[[str], None]) -> str | None:
    """Return the token of a file; a new one in a file of its owner's if there is none yet."""
    if path is None:
        return None
    if not path.exists():
        token = secrets.token_urlsafe(32)
        with disk_errors_as_sentences(path):
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
