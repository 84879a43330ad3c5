"""nearer collect: an env and its scripted demonstrator, or a policy -> a LeRobotDataset."""

import shutil
from collections.abc import Collection
from itertools import islice, takewhile
from pathlib import Path

from rich.console import Console

from nearer.algorithm.model import ModelPolicy
from nearer.algorithm.rollout import actions_outside, rollout
from nearer.commands.progress_bars import live
from nearer.commands.runs import as_saved
from nearer.configs.collect import CollectConfig
from nearer.configs.saved import absolute, config_document
from nearer.core.callbacks import Progress, ProgressCallback, graceful_interrupt, ignore_progress
from nearer.core.episode import Ended, Episode
from nearer.core.errors import ConfigError, EnvError
from nearer.core.interfaces import Fleet, Policy
from nearer.core.seeds import Purpose, episode_seeds
from nearer.datasets.attempts import Attempts
from nearer.datasets.episodes import create_dataset, episode_frames
from nearer.datasets.lerobot.schema import INFO_PATH, read_info
from nearer.datasets.lerobot.writer import DatasetWriter
from nearer.evaluation.ground_truth import GroundTruthTermination, NoTermination
from nearer.fleets.encoded import EncodingPolicy
from nearer.fleets.env_spaces import stated_rate
from nearer.fleets.find_env import env_class
from nearer.fleets.for_model import unencoded_fleet
from nearer.fleets.gym import make_demonstrator, make_fleet
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model
from nearer.runs.documents import write_header
from nearer.runs.lock import alone
from nearer.runs.run import check_new, new_header

_EPISODES_A_BLOCK = 256  # written at once; what is in memory, and lost to a kill


def main(config: CollectConfig, console: Console) -> None:
    """Collect with progress bars, and print how many demonstrations there are."""
    with live(console) as on_progress:
        successful = collect_demonstrations(config, on_progress)
    what = "unlabelled episodes" if config.policy else "demonstrations"
    console.print(f"{successful} {what} of {config.episodes} tried: {config.out}")


def collect_demonstrations(
    config: CollectConfig,
    on_progress: ProgressCallback = ignore_progress,
    *,
    demonstrator: Policy | None = None,
) -> int:
    """Write successful demonstrations as a LeRobotDataset and return how many.

    Success is the simulator's: these are demonstrations, nobody practises here. Of a policy all
    episodes are written, to their time limit, and nobody asks whether they succeeded.

    Args:
        config: settings.
        on_progress: sees the progress.
        demonstrator: acts; None: the scripted demonstrator that the env brings.

    Raises:
        ConfigError: no env is named, the folder holds something, or is not what is to be continued;
            or the policy acts in chunks.
        EnvError: the env is unknown or brings no demonstrator, or no episode succeeded.
    """
    config = as_saved(config) if config.resume else config
    with alone(config.out):
        return _collect(config, on_progress, demonstrator)


def _collect(
    config: CollectConfig, on_progress: ProgressCallback, demonstrator: Policy | None
) -> int:
    if not config.env:
        raise ConfigError("--env must name a Gymnasium env, got none; pass --env ID")
    if config.policy is not None:
        fleet, demonstrator = _robots_of(config, config.policy)
    else:
        fleet = make_fleet(
            config.env, config.num_envs, config.env_settings, max_steps=config.max_steps
        )
        demonstrator = demonstrator or make_demonstrator(config.env, fleet)
    recording = _Recording.open(config, fleet)
    seeds = (
        seed
        for seed in islice(episode_seeds(Purpose.DEMONSTRATION, config.seed), config.episodes)
        if seed not in recording.tried
    )
    outside = 0
    with graceful_interrupt() as stop:
        termination = NoTermination() if config.policy else GroundTruthTermination(fleet)
        until_stopped = takewhile(lambda _: not stop.requested, seeds)
        try:
            for episode in rollout(
                fleet, demonstrator, termination, seeds=until_stopped, max_steps=config.max_steps
            ):
                outside += actions_outside(fleet.spaces, [episode])
                recording.add(episode)
                tried = recording.num_tried
                if tried % 20 == 0 or tried == config.episodes:
                    on_progress(_progress(tried, config.episodes, outside))
        finally:  # also when an env fails: what was recorded is kept
            recording.flush()
            fleet.close()
            successful = recording.successful
            if not successful:
                shutil.rmtree(config.out)  # the same command can run again
    stop.obey(_how_to_go_on(config, successful))
    if not successful and config.policy is not None:
        raise EnvError(
            f"--max-steps {config.max_steps} must leave room for --min-observations "
            f"{config.min_observations}, got no episode that is as long; allow more "
            "steps, or fewer observations"
        )
    if not successful:
        raise EnvError(
            f"the demonstrator of {config.env} must succeed within --max-steps {config.max_steps}, "
            f"got 0 successes of {config.min_observations} observations or more in "
            f"{recording.num_tried} episodes; allow more steps"
        )
    return successful


def _robots_of(config: CollectConfig, checkpoint: Path) -> tuple[Fleet, Policy]:
    """Return a fleet that keeps its images, and the policy of a checkpoint to act in it."""
    model = load_model(checkpoint, build_model, "policy")
    chunk = model.spaces.chunking.chunk
    if chunk > 1:
        raise ConfigError(
            f"--policy must decide every control step, got {checkpoint}, which decides {chunk} at "
            "once; name one that was trained with --chunk 1"
        )
    fleet = unencoded_fleet(
        config.env, config.num_envs, model, settings=config.env_settings, max_steps=config.max_steps
    )
    policy = ModelPolicy(model)
    encoder = model.vision_encoder
    return fleet, EncodingPolicy(policy, encoder, config.num_envs) if encoder else policy


def _how_to_go_on(config: CollectConfig, successful: int) -> str:
    if not successful:
        return "it is nothing yet, run the command again"
    return (
        f"{config.out} holds {successful} demonstrations, continue with nearer collect --resume "
        f"--out {config.out}"
    )


class _Recording:
    """The data set, the episodes that wait to be written to it, and which seeds were tried."""

    def __init__(self, config: CollectConfig, writer: DatasetWriter) -> None:
        self._min_observations = config.min_observations
        self._kept = set(Ended) - {Ended.FAULT} if config.policy else {Ended.SUCCESS_TRUE}
        self._writer = writer
        self._attempts = Attempts(config.out, writer.info.total_episodes)
        self._block: list[Episode] = []
        self._seeds: list[int] = []

    @classmethod
    def open(cls, config: CollectConfig, fleet: Fleet) -> "_Recording":
        """Start a data set, or continue the one in `--out`."""
        fps = stated_rate(config.env, fleet.spaces.control_hz)
        if not config.resume:
            check_new(config.out)
            write_header(config.out, new_header("collect", config_document(absolute(config))))
        elif (config.out / INFO_PATH).exists():
            total = read_info(config.out).total_episodes
            return cls(config, DatasetWriter.resume(config.out, total))
        else:  # killed before the data set was there
            shutil.rmtree(config.out / "meta", ignore_errors=True)
        robot_type = env_class(config.env)
        return cls(config, create_dataset(config.out, fleet.spaces, fps, robot_type))

    @property
    def tried(self) -> Collection[int]:
        """Return the seeds that earlier processes have tried."""
        return self._attempts.seeds

    @property
    def num_tried(self) -> int:
        """Count the episodes tried."""
        return len(self._attempts.seeds) + len(self._seeds)

    @property
    def successful(self) -> int:
        """Count the demonstrations."""
        return self._writer.info.total_episodes + len(self._block)

    def add(self, episode: Episode) -> None:
        """Keep an episode if it is a demonstration; full blocks are written."""
        self._seeds.append(episode.seed)
        long_enough = episode.num_steps + 1 >= self._min_observations
        if episode.ended in self._kept and long_enough:
            self._block.append(episode)
        if len(self._block) == _EPISODES_A_BLOCK:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._seeds:
            self._attempts.note(self._seeds, self.successful)
        if self._block:
            self._writer.append([episode_frames(episode) for episode in self._block])
        self._seeds, self._block = [], []


def _progress(tried: int, total: int, outside: int) -> Progress:
    shown = {"actions beyond limits": f"{outside:,}"} if outside else {}
    return Progress(stage="demonstrations", done=tried, total=total, values=shown)
