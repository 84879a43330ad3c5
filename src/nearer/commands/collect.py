"""nearer collect: an env and its scripted demonstrator -> a LeRobotDataset."""

import shutil
from itertools import islice, takewhile

from rich.console import Console

from nearer.algorithm.rollout import actions_outside, rollout
from nearer.commands.progress_bars import live
from nearer.configs.collect import CollectConfig
from nearer.core.callbacks import Progress, ProgressCallback, graceful_interrupt, ignore_progress
from nearer.core.episode import Ended, Episode
from nearer.core.errors import EnvError
from nearer.core.interfaces import Fleet, Policy
from nearer.core.seeds import Purpose, episode_seeds
from nearer.datasets.episodes import create_dataset, episode_frames
from nearer.datasets.lerobot.writer import DatasetWriter
from nearer.evaluation.ground_truth import GroundTruthTermination
from nearer.fleets.gym import make_demonstrator, make_fleet
from nearer.runs.lock import alone

DEFAULT_HZ = 10  # what a data set states where the env does not say how fast it is controlled
_EPISODES_A_BLOCK = 256  # written at once; what is in memory, and lost to a kill


def main(config: CollectConfig, console: Console) -> None:
    """Collect with progress bars, and print how many demonstrations there are."""
    with live(console) as on_progress:
        successful = collect_demonstrations(config, on_progress)
    console.print(f"{successful} demonstrations of {config.episodes} tried: {config.out}")


def collect_demonstrations(
    config: CollectConfig,
    on_progress: ProgressCallback = ignore_progress,
    *,
    demonstrator: Policy | None = None,
) -> int:
    """Write successful demonstrations as a LeRobotDataset and return how many.

    Success is the simulator's: these are demonstrations, nobody practises here.

    Args:
        config: settings.
        on_progress: sees the progress.
        demonstrator: acts; None: the scripted demonstrator that the env brings.

    Raises:
        EnvError: the env is unknown or brings no demonstrator, or no episode succeeded.
    """
    with alone(config.out):
        return _collect(config, on_progress, demonstrator)


def _collect(
    config: CollectConfig, on_progress: ProgressCallback, demonstrator: Policy | None
) -> int:
    fleet = make_fleet(config.env, config.num_envs)
    demonstrator = demonstrator or make_demonstrator(config.env, fleet)
    writer = _writer(config, fleet)
    seeds = islice(episode_seeds(Purpose.DEMONSTRATION, config.seed), config.episodes)
    block: list[Episode] = []
    tried = successful = outside = 0
    with graceful_interrupt() as stop:
        termination = GroundTruthTermination(fleet)
        until_stopped = takewhile(lambda _: not stop.requested, seeds)
        try:
            for episode in rollout(
                fleet, demonstrator, termination, seeds=until_stopped, max_steps=config.max_steps
            ):
                tried += 1
                outside += actions_outside(fleet.spaces, [episode])
                long_enough = episode.num_steps + 1 >= config.min_observations
                if episode.ended is Ended.SUCCESS_TRUE and long_enough:
                    block.append(episode)
                    successful += 1
                if len(block) == _EPISODES_A_BLOCK:
                    _write(writer, block)
                if tried % 20 == 0 or tried == config.episodes:
                    on_progress(_progress(tried, config.episodes, outside))
        finally:  # also when an env fails: what was recorded is kept
            _write(writer, block)
            fleet.close()
            if not successful:
                shutil.rmtree(config.out)  # the same command can run again
    stop.obey(f"{config.out} holds {successful} demonstrations, collect more into another --out")
    if not successful:
        raise EnvError(
            f"the demonstrator of {config.env} must succeed within --max-steps {config.max_steps}, "
            f"got 0 successes of {config.min_observations} observations or more in {tried} "
            "episodes; allow more steps"
        )
    return successful


def _writer(config: CollectConfig, fleet: Fleet) -> DatasetWriter:
    robot_type = config.env.rpartition("/")[2]
    return create_dataset(config.out, fleet.spaces, _fps(config, fleet), robot_type)


def _progress(tried: int, total: int, outside: int) -> Progress:
    shown = {"actions beyond limits": f"{outside:,}"} if outside else {}
    return Progress(stage="demonstrations", done=tried, total=total, values=shown)


def _fps(config: CollectConfig, fleet: Fleet) -> int:
    control_hz = fleet.spaces.control_hz
    if config.fps and control_hz and config.fps != control_hz:
        raise EnvError(
            f"--fps must be the control rate of {config.env}, {control_hz} Hz, got {config.fps}; "
            "leave it out"
        )
    return config.fps or control_hz or DEFAULT_HZ


def _write(writer: DatasetWriter, block: list[Episode]) -> None:
    if block:
        writer.append([episode_frames(episode) for episode in block])
    block.clear()
