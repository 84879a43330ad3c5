"""What the commands share: runs opened or continued, and episodes shown in the report."""

from typing import Any

from nearer.algorithm.torchrun import started_as
from nearer.configs.improve import ImproveConfig
from nearer.configs.saved import Config, from_json, resumed, to_json
from nearer.configs.sft import SFTConfig
from nearer.core.episode import Episode
from nearer.core.errors import ConfigError
from nearer.runs.run import Run, read_header

SHOWN_EPISODES = 10  # rollouts a row of the report


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
    sft = isinstance(config, SFTConfig)
    resume_command = started_as(config.training.processes) if sft else f"nearer {command}"
    if config.resume:
        return Run.resume(config.out, resume_command, **facts)
    return Run.create(config.out, command, to_json(config), resume_command, **facts)


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
