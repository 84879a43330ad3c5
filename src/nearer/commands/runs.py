"""What the commands share: runs opened or continued, and episodes shown in the report."""

from collections.abc import Mapping

from jaxtyping import Float

from nearer.algorithm.torchrun import started_as
from nearer.configs.collect import CollectConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.saved import (
    Config,
    absolute,
    config_document,
    processes_of,
    read_config,
    resumed,
)
from nearer.configs.sft import SFTConfig
from nearer.core.arrays import Array
from nearer.core.episode import Episode
from nearer.core.errors import ConfigError
from nearer.runs.documents import NO_INPUTS, DrawnEpisode, RunInputs, read_header
from nearer.runs.run import Run

_COMMANDS: Mapping[type, str] = {
    CollectConfig: "collect",
    SFTConfig: "sft",
    ImproveConfig: "improve",
}
SHOWN_EPISODES = 10  # rollouts a row of the report


def saved_config(config: Config) -> Config:
    """Return the settings that the run in `config.out` was started with.

    Raises:
        ConfigError: there is no such run, or it is one of another command or version.
    """
    header = read_header(config.out)
    command = _COMMANDS[type(config)]
    if header.command != command:
        raise ConfigError(
            f"{config.out} must be a run of nearer {command}, got one of nearer "
            f"{header.command}; continue it with that command"
        )
    return read_config(type(config), header.config)


def as_saved(config: Config) -> Config:
    """Return the saved settings of a run that `config` continues."""
    return resumed(config, saved_config(config))


def open_run(config: Config, command: str, inputs: RunInputs = NO_INPUTS) -> Run:
    """Start a run with these settings, or continue it."""
    resume_command = started_as(command, processes_of(config))
    if config.resume:
        practises = isinstance(config, ImproveConfig)
        changed = {"audits": config_document(config)["audits"]} if practises else {}
        return Run.resume(config.out, resume_command, inputs, changed)
    document = config_document(absolute(config))
    return Run.create(config.out, command, document, resume_command, inputs)


def drawn(episode: Episode, chunk: int) -> DrawnEpisode:
    """Return an episode as the report draws or replays it, a row a chunk of control steps."""
    return DrawnEpisode(
        seed=episode.seed,
        chunk=chunk,
        instruction=episode.instruction,
        agent_pos=rows_of(episode.observations.agent_pos),
        environment_state=rows_of(episode.observations.environment_state),
        actions=rows_of(episode.actions),
        ended=episode.ended.value,
    )


def rows_of(values: Float[Array, "rows columns"]) -> tuple[tuple[float, ...], ...]:
    """Return a matrix as a document keeps it."""
    return tuple(map(tuple, values.tolist()))
