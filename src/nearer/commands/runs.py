"""What the commands share: runs that are opened or continued, and envs that fit a checkpoint."""

from pathlib import Path
from typing import Any

from nearer.chunking import Chunking
from nearer.configs import Config, ImproveConfig, SFTConfig, from_json, resumed, to_json
from nearer.episode import Episode
from nearer.errors import ConfigError, EnvError
from nearer.fleet.chunks import in_chunks
from nearer.fleet.in_process import make_fleet
from nearer.fleet.seeing import seeing
from nearer.model import FoundationModel
from nearer.protocols import Fleet, Spaces
from nearer.run import Run, read_header

SHOWN_EPISODES = 10  # rollouts a row of the report
_REMEMBERED_BYTES = 2 * 1024**3


def saved_config(config: Config) -> Config:
    """Return the settings that the run in `config.out` was started with.

    Raises:
        ConfigError: there is no such run, or it is one of another command or version.
    """
    header = read_header(config.out)
    command = "sft" if isinstance(config, SFTConfig) else "improve"
    if header.get("command") != command:
        raise ConfigError(
            f"{config.out} must be a run of nearer {command}, got one of nearer "
            f"{header.get('command')}; continue it with that command"
        )
    return from_json(type(config), header.get("config"))


def as_saved(config: Config) -> Config:
    """Return the saved settings of a run that `config` continues."""
    return resumed(config, saved_config(config))


def open_run(config: SFTConfig | ImproveConfig, command: str, **facts: str) -> Run:
    """Start a run with these settings, or continue it."""
    if config.resume:
        return Run.resume(config.out, **facts)
    return Run.create(config.out, command, to_json(config), **facts)


def fitting_fleet(
    env: str, num_robots: int, model: FoundationModel, reward: FoundationModel | None = None
) -> Fleet:
    """Return a fleet of an env that fits a model, its pictures looked at by the model's sight.

    Args:
        env: Gymnasium id.
        num_robots: copies of it.
        model: acts.
        reward: judges, with a sight of its own if it has another; None: nobody, or `model`.

    Raises:
        EnvError: the env has other sizes than a checkpoint, or not its cameras.
    """
    fleet = make_fleet(env, num_robots)
    try:
        _check_fits(env, fleet.spaces, model.spaces, "the checkpoint")
        if reward is not None:
            _check_fits(env, fleet.spaces, reward.spaces, "the reward's checkpoint")
    except EnvError:
        fleet.close()
        raise
    sighted = seeing(fleet, model.sight, reward.sight if reward else None)
    return in_chunks(sighted, model.spaces.chunking)


def beside(checkpoint: Path, what: str) -> Path:
    """Return where what is measured of a checkpoint is kept: with it, unless it is on the hub."""
    if checkpoint.exists():
        return checkpoint / what
    return Path("outputs") / what / "_".join(checkpoint.parts)


def robots_with_room(model: FoundationModel, max_steps: int, most: int) -> int:
    """Return how many robots may act at once, where all that their sights make is remembered."""
    width = model.sight.width if model.sight else 0
    decisions = model.spaces.chunking.decisions_within(max_steps) + 1
    return max(1, min(most, _REMEMBERED_BYTES // max(1, 4 * width * decisions)))


def check_same_chunks(policy: Chunking, reward: Chunking) -> None:
    """Raise ConfigError unless both count steps-to-go in the same chunks of control steps."""
    if policy.chunk != reward.chunk:
        raise ConfigError(
            f"the reward must decide on {policy.chunk} control steps at once, as the policy does, "
            f"got {reward.chunk}; train it with nearer sft --chunk {policy.chunk}"
        )


def _check_fits(env: str, offered: Spaces, needed: Spaces, whose: str) -> None:
    sizes = [(one.agent_pos, one.environment_state, one.axes) for one in (offered, needed)]
    if sizes[0] != sizes[1]:
        raise EnvError(
            f"{env} must have the spaces of {whose}, {needed}, got {offered}; "
            "use the env that the demonstrations came from"
        )
    if offered.control_hz and needed.control_hz and offered.control_hz != needed.control_hz:
        raise EnvError(
            f"{env} must be controlled at the {needed.control_hz} Hz of the demonstrations, got "
            f"{offered.control_hz} Hz: steps-to-go counts control steps; record demonstrations at "
            f"{offered.control_hz} Hz, or set the env to {needed.control_hz} Hz"
        )
    missing = [camera for camera in needed.cameras if camera not in offered.cameras]
    if missing:
        raise EnvError(
            f"{env} must have the camera {missing[0]} of {whose}, got "
            f"{', '.join(map(str, offered.cameras)) or 'none'}; rename or resize it in a "
            "gymnasium.ObservationWrapper"
        )


def shown(episode: Episode, chunk: int) -> dict[str, Any]:
    """Return an episode as the report draws or replays it, a row a chunk of control steps."""
    return {
        "seed": episode.seed,
        "chunk": chunk,
        "instruction": episode.instruction,
        "agent_pos": episode.observations.agent_pos.tolist(),
        "environment_state": episode.observations.environment_state.tolist(),
        "actions": episode.actions.tolist(),
        "ended": episode.ended.value,
    }
