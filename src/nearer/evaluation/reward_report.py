"""reward_report.json: how right a checkpoint's steps-to-go, and the detector on it, are.

What nearer eval-reward measures on labelled episodes: the reward metrics of each source, the
threshold that they recommend, and baselines trained on the same demonstrations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nearer.evaluation.audit import Audit
from nearer.evaluation.baseline_settings import BaselineSettings
from nearer.evaluation.detector_metrics import DetectorMetrics, PrecisionGap
from nearer.evaluation.reward_metrics import RewardMetrics, SliceMetrics
from nearer.evaluation.threshold import ThresholdChoice
from nearer.runs.json_files import read_document, write_document

REWARD_REPORT = "reward_report.json"
FOLDER = "eval_reward"
"""Of a run: where nearer eval-reward leaves its report, unless --out names another place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRemarks:
    """Where labelled episodes come from; None: does not apply.

    Attributes:
        data: folder of a data set.
        run: whose practised episodes they are.
        audits: of that run, pooled.
        env: of rollouts.
        policy: that made the rollouts.
        max_steps: control steps of each rollout.
    """

    data: str | None = None
    run: str | None = None
    audits: Audit | None = None
    env: str | None = None
    policy: str | None = None
    max_steps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What was measured on one source of labelled episodes.

    Attributes:
        labels: how they were made, a sentence.
        is_ground_truth: whether they are worth choosing a threshold by.
        reward: how right steps-to-go is.
        detector: how well d separates success from failure.
        slices: kind of episodes -> these in short; all are among them.
    """

    labels: str
    is_ground_truth: bool
    remarks: SourceRemarks
    reward: RewardMetrics
    detector: DetectorMetrics
    slices: Mapping[str, SliceMetrics]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineReport:
    """How one baseline does on one source.

    Attributes:
        seeds: its metrics, one a training seed.
        gap: by how much steps-to-go is above it in average precision; None: it is steps-to-go
            itself, or there is no success to detect.
    """

    seeds: tuple[DetectorMetrics, ...]
    gap: PrecisionGap | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineComparison:
    """Other rewards, trained on the checkpoint's demonstrations.

    Attributes:
        num_demonstrations: that they were trained on.
        updates: gradient updates of each.
        num_seeds: trainings of each.
        settings: size and optimiser of each.
        sources: source -> baseline -> how it does there; the checkpoint's own reward comes first.
    """

    num_demonstrations: int
    updates: int
    num_seeds: int
    settings: BaselineSettings
    sources: Mapping[str, Mapping[str, BaselineReport]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReport:
    """reward_report.json.

    Attributes:
        checkpoint: as the command was given it.
        weights_sha256: hash of the reward model's weights.
        seed: of starts and drawn episodes.
        unit: what steps count: steps, or chunks of several.
        trained_on: how many demonstrations, or why nobody knows.
        run_threshold_steps: s that the checkpoint's run has; None: it was not calibrated.
        recommended: the threshold these episodes choose; None without ground truth.
        sources: name -> what was measured there.
        baselines: None: there was no comparison.
        why_no_baselines: the reason then; "" if there was one.
    """

    checkpoint: str
    weights_sha256: str
    seed: int
    unit: str
    trained_on: str
    run_threshold_steps: float | None
    recommended: ThresholdChoice | None
    sources: Mapping[str, SourceReport]
    baselines: BaselineComparison | None
    why_no_baselines: str


def read_reward_report(path: Path, advice: str) -> RewardReport:
    """Return a reward_report.json.

    Args:
        path: the file.
        advice: what to do if it cannot be read; ends the sentence.

    Raises:
        ConfigError: it is not as nearer eval-reward writes it.
    """
    return read_document(RewardReport, path, advice)


def write_reward_report(folder: Path, report: RewardReport) -> None:
    """Write reward_report.json into a folder."""
    write_document(folder / REWARD_REPORT, report)
