"""nearer export: episodes of a run or a data set -> a rerun recording, with their steps-to-go."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from nearer.commands.progress_bars import live
from nearer.configs.export import ExportConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.errors import ConfigError
from nearer.datasets.demonstration_loading import open_demonstrations
from nearer.datasets.lerobot.progress_sidecar import check_current
from nearer.datasets.lerobot.reader import Dataset, read_progress
from nearer.datasets.lerobot.schema import INFO_PATH
from nearer.evaluation.reward_model import calibrated_threshold
from nearer.models.factory import build_model
from nearer.reporting.rerun_export import (
    FramePredictions,
    check_rerun,
    model_predictions,
    recorded_predictions,
    write_recording,
)
from nearer.runs.checkpoint import load_model
from nearer.runs.documents import read_header
from nearer.runs.hub import local_run
from nearer.runs.lock import alone

_SHOWN_UNASKED = 10  # a data set may have thousands of episodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        num_predicted: episodes with their steps-to-go; the others have images and numbers alone.
    """

    out: Path
    episodes: int
    num_predicted: int


def main(config: ExportConfig, console: Console) -> None:
    """Export with progress bars, and print how to open the recording."""
    with live(console) as on_progress:
        done = run_export(config, on_progress)
    console.print(
        f"{done.episodes} episodes, {done.num_predicted} with steps-to-go: {done.out}; see them "
        f"with rerun {done.out}",
        soft_wrap=True,
    )
    if not done.num_predicted:
        console.print("nothing says how many steps were left; pass --model RUN for that")


@dataclass(frozen=True, slots=True, kw_only=True)
class _LearnedFrom:
    """The settings of a Stage-1 run that name its demonstrations."""

    data: str
    revision: str | None = None
    rename: tuple[str, ...] = ()


def run_export(config: ExportConfig, on_progress: ProgressCallback = ignore_progress) -> Exported:
    """Write the recording and return what is in it."""
    check_rerun()
    with alone(config.out, is_file=True):
        return _export(config, on_progress)


def _export(config: ExportConfig, on_progress: ProgressCallback) -> Exported:
    source, model = _source(config.source)
    dataset = open_demonstrations(source.data, source.revision, source.rename)
    episodes = _episodes(config, dataset)
    predictions = _predictions(config.model or model, dataset, episodes, on_progress)
    write_recording(config.out, dataset, episodes, predictions, on_progress)
    with_steps = sum(episode in predictions for episode in episodes)
    return Exported(out=config.out, episodes=len(episodes), num_predicted=with_steps)


def _source(source: Path) -> tuple[_LearnedFrom, Path | None]:
    """Return the data set, and the run whose reward model predicts, if it is one."""
    practice = source / "practice"
    if (practice / INFO_PATH).exists():
        return _LearnedFrom(data=str(practice)), None
    if (source / INFO_PATH).exists() or not (source / "run.json").exists():
        return _LearnedFrom(data=str(source)), None
    header = read_header(source)
    if header.command != "sft":
        raise ConfigError(
            f"{source} must be a run of nearer sft, or have episodes in {practice}, got neither; "
            "name a data set, or let it practise first"
        )
    return header.part(_LearnedFrom, source), source


def _episodes(config: ExportConfig, dataset: Dataset) -> list[int]:
    total = len(dataset.episode_lengths)
    wanted = list(dict.fromkeys(config.episodes)) or list(range(min(total, _SHOWN_UNASKED)))
    wrong = [episode for episode in wanted if not 0 <= episode < total]
    if wrong or not wanted:
        raise ConfigError(
            f"--episodes must be rows of {dataset.root}, which has {total} episodes, got "
            f"{wrong or 'none'}; count from 0"
        )
    return wanted


def _predictions(
    model: Path | None, dataset: Dataset, episodes: list[int], on_progress: ProgressCallback
) -> dict[int, FramePredictions]:
    if model is not None:
        root = local_run(model)
        reward = load_model(root, build_model, "reward")
        return model_predictions(reward, dataset, episodes, calibrated_threshold(root), on_progress)
    check_current(dataset)
    progress = read_progress(dataset)
    return recorded_predictions(dataset, progress) if progress is not None else {}
