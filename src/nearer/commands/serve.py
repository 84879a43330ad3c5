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
from nearer.configs.serve import ServeConfig, in_url
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera
from nearer.evaluation.reward_model import RewardModel, load_policy_and_reward
from nearer.runs.files import disk_errors_as_sentences

if TYPE_CHECKING:
    from nearer.serving.client_format import ClientFormat
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
        tell(f"{config.checkpoint} answers on ws://{in_url(config.host)}:{port}, Ctrl-C stops it")

    server.run(config.host, config.port, ready)
    tell("stopped; robots that were connected were told so")


def server_of(config: ServeConfig, tell: Callable[[str], None] = print) -> "PolicyServer":
    """Return a server with its models loaded, ready to run.

    Raises:
        ConfigError: the extra is missing, the token's file holds none, or the client's keys do not
            fit the checkpoint.
        CheckpointError: no model is there, or its files are damaged.
    """
    with _needs_websockets():
        from nearer.serving.server import Limits, PolicyServer
        from nearer.serving.session import ServedPolicy
    token = server_token(config.token_file, tell)
    policy, judging = load_served(config)
    reads_images = policy.vision_encoder or judging.model.vision_encoder
    cameras = policy.spaces.cameras if reads_images else ()
    client = client_format(config, policy, cameras, tell)
    served = ServedPolicy(policy, judging.model, judging.threshold_steps, config.seed, client)
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


def client_format(
    config: ServeConfig,
    policy: FoundationModel,
    cameras: tuple[Camera, ...],
    tell: Callable[[str], None],
) -> "ClientFormat":
    """Return how clients' messages are to be read; say so where they are not of our own names.

    Args:
        config: settings.
        policy: of the checkpoint.
        cameras: whose images it reads.
        tell: says to people what is read from where, and what the client must change.

    Raises:
        ConfigError: --rename or --client does not fit the checkpoint.
    """
    from nearer.serving.client_format import ClientFormat, keys_by_name
    from nearer.serving.client_profiles import PROFILES
    from nearer.serving.image_resizing import filters_of

    keys = keys_by_name(config.client, config.renames, cameras)
    for name, own in keys.items():
        tell(f"{name} is read from {' and then '.join(own)}")
    profile = PROFILES[config.client] if config.client else None
    if profile:
        chunk, axes = policy.spaces.chunking.chunk, policy.spaces.axes
        if not profile.fits(chunk, axes):
            tell(
                f"openpi's {config.client} client expects answers of {profile.chunk} x "
                f"{profile.axes} actions, this checkpoint's have {chunk} x {axes}: change the "
                f"client's {profile.horizon}"
            )
        if config.resize and any(camera.height != camera.width for camera in cameras):
            tell(
                "openpi's clients pad images with black bars to a square, which --resize then "
                "stretches: set the client's image size to the checkpoint's"
            )
    return ClientFormat(
        keys=keys,
        channels_first=profile is not None and profile.channels_first,
        filters=filters_of(policy, cameras) if config.resize else {},
        instruction=config.instruction,
    )


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
