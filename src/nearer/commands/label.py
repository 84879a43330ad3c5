"""nearer label: a LeRobotDataset and a checkpoint -> steps-to-go and rewards beside its frames."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.model import FoundationModel, Inputs
from nearer.algorithm.score import FrameLabels, frame_labels, predict_steps_to_go
from nearer.commands.progress_bars import live
from nearer.configs.label import LabelConfig
from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.episode import StepsToGoPrediction
from nearer.core.errors import ConfigError, DatasetError
from nearer.core.intervals import Rate
from nearer.core.spaces import Spaces
from nearer.datasets.caching.predictions import KeptPredictions
from nearer.datasets.demonstration_loading import load_demonstrations, open_demonstrations
from nearer.datasets.episodes import dataset_spaces
from nearer.datasets.lerobot.progress_sidecar import check_free, sidecar_place, write_sidecar
from nearer.datasets.lerobot.reader import Dataset
from nearer.evaluation.reward_metrics import spearman
from nearer.evaluation.reward_model import RewardModel, load_reward_model
from nearer.runs.checkpoint import weights_hash
from nearer.runs.lock import alone
from nearer.runs.provenance import git_revision, package_versions

ROWS_A_PART = 2048
"""Frames that are predicted at once, or fewer where features are wide: what a kill can lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What was written, in short.

    Attributes:
        path: of the sidecar.
        frames: labelled.
        start_steps: mean steps-to-go of the first frames, in control steps.
        detected: episodes whose last frame is detected as a success.
        rank_correlation: of d with the frames that are left, a mean over episodes; None where d
            is constant in all of them.
    """

    path: Path
    frames: int
    start_steps: float
    detected: Rate
    rank_correlation: float | None

    def lines(self) -> list[str]:
        """Return a table for people."""
        correlation = self.rank_correlation
        rows = {
            "episodes": f"{self.detected.total:,}",
            "frames": f"{self.frames:,}",
            "steps-to-go at the start": f"{self.start_steps:.1f} control steps, mean",
            "last frame detected": str(self.detected),
            "rank correlation": (
                "none, d is constant" if correlation is None else f"{correlation:.3f}"
            )
            + " (d with the frames left; near 1 for good demonstrations)",
            "labels": str(self.path),
        }
        return [f"{name:<26}{value}" for name, value in rows.items()]


def main(config: LabelConfig, console: Console) -> None:
    """Label with progress bars, and print a summary of the labels."""
    with live(console) as on_progress:
        labelled = run_label(config, on_progress)
    for line in labelled.lines():
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def run_label(config: LabelConfig, on_progress: ProgressCallback = ignore_progress) -> Labelled:
    """Label every frame of a data set and return what was written.

    Raises:
        ConfigError: no threshold, an instruction the model does not know, or no place for a data
            set of the hub.
        DatasetError: the data set does not fit the checkpoint, or labels are there already.
    """
    if config.out is None and "/" in config.data and not Path(config.data).exists():
        raise ConfigError(
            f"--out must name a file for a data set that is on the hub, as no folder "
            f"{config.data} is here, got none; pass --out FILE.parquet"
        )
    dataset = open_demonstrations(config.data, config.revision, config.rename)
    offered = dataset_spaces(dataset)
    path = config.out or sidecar_place(dataset)
    check_free(dataset, path, overwrite=config.overwrite)
    with alone(dataset.root) if config.out is None else alone(path, is_file=True):
        return _label(config, dataset, offered, path, on_progress)


def _label(
    config: LabelConfig,
    dataset: Dataset,
    offered: Spaces,
    path: Path,
    on_progress: ProgressCallback,
) -> Labelled:
    reward = load_reward_model(config.model, None, config.threshold)
    threshold = reward.threshold_steps
    if threshold is None:
        raise ConfigError(
            f"--threshold must be given where Stage 1 calibrated none, got none for {config.model};"
            " pass --threshold STEPS, or name a finished run of nearer sft"
        )
    check_fits(dataset, offered, reward.model)
    data = load_demonstrations(
        dataset, reward.model.vision_encoder, cache=config.cache, on_progress=on_progress
    )
    predictions = KeptPredictions(dataset, _identity(reward.model), config.cache)

    def predict(rows: slice) -> StepsToGoPrediction:
        return predict_steps_to_go(reward.model, data.inputs(rows))

    labels = frame_labels(
        reward.model,
        predictions.open(predict, data.parts(ROWS_A_PART)[0].stop, on_progress),
        data.episode_lengths,
        threshold_steps=threshold,
        discount=config.discount,
    )
    made_by = _made_by(reward, threshold, config.discount)
    write_sidecar(dataset, path, _columns(labels), made_by, overwrite=config.overwrite)
    predictions.delete()
    return _summary(path, labels, data)


def check_fits(dataset: Dataset, offered: Spaces, model: FoundationModel) -> None:
    """Raise an error unless a model can be asked about every frame; actions do not matter.

    Raises:
        DatasetError: other sizes, control rate or cameras than the model was trained on.
        ConfigError: an instruction that the model does not know.
    """
    cameras = model.vision_encoder is not None
    mismatch = offered.mismatch(model.spaces, actions=False, cameras=cameras)
    if mismatch is not None:
        raise DatasetError(
            f"{dataset.root} {mismatch.text}; use a checkpoint that was trained on such data"
        )
    _check_instructions(model, dataset.tasks)


def _check_instructions(model: FoundationModel, tasks: tuple[str, ...]) -> None:
    """Predict with every instruction once: unknown words are reported before hours of encoding."""
    width = model.vision_encoder.width if model.vision_encoder else 0
    state = model.spaces.agent_pos + model.spaces.environment_state
    with torch.inference_mode():
        for task in tasks:
            empty = Inputs(
                state=torch.zeros(1, state), features=torch.zeros(1, width), instructions=[task]
            )
            model.steps_to_go_logits(empty)


def _columns(labels: FrameLabels) -> dict[str, Array]:
    """Return the columns of the sidecar that practice writes, less those about who acted."""
    return {
        "steps_to_go": labels.steps_to_go,
        "steps_to_go_std": labels.steps_to_go_std,
        "quantiles": labels.quantiles,
        "reward": labels.rewards,
        "return": labels.returns,
        "success_detected": labels.solved,
    }


def _identity(model: FoundationModel) -> str:
    """Return what names a model's predictions: its kind, weights and vision encoder."""
    encoder = model.vision_encoder.identity if model.vision_encoder else ""
    return f"{type(model).__name__} {model.bins} {weights_hash(model)} {encoder}"


def _made_by(reward: RewardModel, threshold: float, discount: float) -> dict[str, object]:
    return {
        "model": type(reward.model).__name__,
        "weights_sha256": weights_hash(reward.model),
        "unit": "control steps",
        "threshold_steps": threshold * reward.model.spaces.chunking.chunk,
        "discount": discount,
        "git_revision": git_revision(),
        "version": package_versions()["nearer"],
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _summary(path: Path, labels: FrameLabels, data: Demonstrations) -> Labelled:
    lengths = data.episode_lengths
    ends = np.cumsum(lengths)
    left = np.split(data.steps_to_go.numpy(), ends[:-1])
    predicted = np.split(labels.steps_to_go, ends[:-1])
    correlations = [
        spearman(d, steps) for d, steps in zip(predicted, left, strict=True) if np.ptp(d)
    ]
    return Labelled(
        path=path,
        frames=len(labels.steps_to_go),
        start_steps=float(labels.steps_to_go[ends - lengths].mean()),
        detected=Rate(successes=int(labels.solved[ends - 1].sum()), total=len(lengths)),
        rank_correlation=float(np.mean(correlations)) if correlations else None,
    )
