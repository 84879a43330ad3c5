"""What the report reads from run folders, as values; a file a run does not have yet is None.

StageOne    losses, calibration, demonstrations, evaluation
StageTwo    practice, audits, evaluation
Report      the runs of one page, and which Stage-2 run started from which Stage-1 run
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float

from nearer.algorithm.run_writer import Record
from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.core.intervals import Rate
from nearer.evaluation.audit import AUDITS, Audit, read_audits
from nearer.evaluation.calibration import Calibration, PredictionExample, read_calibration
from nearer.evaluation.eval_info import read_eval_info
from nearer.evaluation.reliability import TrueStepsGroup
from nearer.evaluation.success import Evaluation
from nearer.evaluation.threshold import ThresholdChoice
from nearer.runs.documents import (
    HEADER,
    DrawnEpisode,
    RunHeader,
    read_demonstrations,
    read_encoding_time,
    read_header,
    read_rollouts,
)
from nearer.runs.hub import CALIBRATION, EVALUATION
from nearer.runs.metrics import read_metrics

_ADVICE = "make the run again with this version of nearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The states of one episode, first to last, `chunk` control steps from one to the next."""

    agent_pos: Float[Array, "obs agent"]
    environment_state: Float[Array, "obs environment"]
    success: bool
    chunk: int = 1

    @property
    def num_steps(self) -> int:
        """Count the control steps."""
        return self.chunk * (len(self.agent_pos) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """An evaluation with its first rollouts, which are in the order of its seeds."""

    env: str
    evaluation: Evaluation
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What the model predicts along one episode.

    Attributes:
        edges: lower edges of the bins, in control steps.
        probabilities: p(k | o_t, g).
        steps_to_go: d, its expectation.
    """

    name: str
    edges: Float[Array, "bins"]
    probabilities: Float[Array, "obs bins"]
    steps_to_go: Float[Array, "obs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How the detector does on one source at one threshold."""

    source: str
    precision: Rate
    recall: Rate
    delay_steps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationResult(ThresholdChoice):
    """A calibration.json: the chosen threshold s, what it was chosen on, and reliability.

    Attributes:
        by_true_steps: predicted steps-to-go, grouped by the true ones.
        nominal: levels of the predicted quantiles.
        observed: fraction of true steps-to-go below each.
    """

    frames: int
    mean_absolute_error_steps: float
    by_true_steps: Sequence[TrueStepsGroup]
    nominal: Sequence[float]
    observed: Sequence[float]
    examples: tuple[Example, ...]

    def chosen(self) -> list[Detection]:
        """Return the detector's numbers at the chosen threshold, source by source."""
        return [
            Detection(
                source=name,
                precision=detector.counts.precision,
                recall=detector.counts.recall,
                delay_steps=detector.delay_steps,
            )
            for name, detector in self.at_threshold.items()
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What every run has.

    Attributes:
        name: tells the run from the page's others.
        header: run.json.
        records: metrics.jsonl.
        evaluated: None before nearer eval.
    """

    root: Path
    name: str
    header: RunHeader
    records: Sequence[Record]
    evaluated: Evaluated | None

    @property
    def settings(self) -> dict[str, object]:
        """Return the run's config, nested settings under dotted names."""
        return flat(self.header.config)

    @property
    def alarms(self) -> list[tuple[int, str]]:
        """Return step and sentence of every alarm."""
        return [
            (int(number(record["step"])), str(record["alarm"]))
            for record in self.records
            if record.get("alarm")
        ]

    def series(self, key: str) -> Float[Array, "records"]:
        """Return one metric of every record; nan where it is missing."""
        return np.array([number(record.get(key)) for record in self.records], dtype=np.float64)

    def last(self, key: str) -> float:
        """Return a metric of the last record; nan if it is missing."""
        return number(self.records[-1].get(key)) if self.records else np.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLoss:
    """The held-out loss of a checkpoint that was chosen, in nats, and its update."""

    update: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOne:
    """A Stage-1 run.

    Attributes:
        seeing_s: time that its vision encoder took before the first update; nan without one.
    """

    facts: RunFacts
    demonstrations: tuple[Rollout, ...]
    calibration: CalibrationResult | None
    seeing_s: float

    def takes_last(self, metric: str) -> bool:
        """Tell whether the last checkpoint is taken for an objective's part, whatever its loss."""
        part = {"loss_bc": "policy", "loss_steps_to_go": "reward"}[metric]
        return self.facts.settings.get(f"training.{part}_checkpoint") == "last"

    def chosen(self, metric: str) -> ChosenLoss | None:
        """Return the held-out loss of the checkpoint that an objective chose; None before any."""
        held_out = self.facts.series(f"sft/val_{metric}")
        if not np.isfinite(held_out).any():
            return None
        last = int(np.flatnonzero(np.isfinite(held_out))[-1])
        row = last if self.takes_last(metric) else int(np.nanargmin(held_out))
        return ChosenLoss(
            update=int(number(self.facts.records[row]["step"])), loss=float(held_out[row])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTwo:
    """A Stage-2 run.

    Attributes:
        index: of this run among the page's Stage-2 runs, from 0.
        before: the Stage-1 run it started from, if it is on the page.
        kept_step: iterations behind the checkpoint that was kept as the policy.
    """

    facts: RunFacts
    index: int
    before: StageOne | None
    audits: tuple[Audit, ...]
    kept_step: int | None

    def episodes_at(self, step: int | None) -> float:
        """Return the episodes practised up to a step of the metrics; without it, up to the last."""
        records = self.facts.records
        rows = [record for record in records if record.get("step") == step] or records
        return number(rows[-1].get("practice/episodes")) if rows else np.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The runs of one page, each stage in the order given."""

    stage_one: tuple[StageOne, ...]
    stage_two: tuple[StageTwo, ...]

    @property
    def all_facts(self) -> list[RunFacts]:
        """Return what every run has, Stage 1 first."""
        return [run.facts for run in (*self.stage_one, *self.stage_two)]


def read_report(roots: Sequence[Path]) -> Report:
    """Read the runs of a page.

    Raises:
        ConfigError: none are given, a folder is no run, or a file of it cannot be understood.
    """
    unique = list(dict.fromkeys(root.resolve() for root in roots))
    if not unique:
        raise ConfigError("runs must be one or more run folders, got none; name one")
    facts = [_read_facts(root, unique) for root in unique]
    for run in facts:
        if run.header.command not in ("sft", "improve"):
            raise ConfigError(
                f"{run.root} must be a run of nearer sft or nearer improve, got command "
                f"{run.header.command!r} in run.json; {_ADVICE}"
            )
    first = tuple(_read_stage_one(run) for run in facts if run.header.command == "sft")
    second = [run for run in facts if run.header.command == "improve"]
    return Report(
        stage_one=first,
        stage_two=tuple(_read_stage_two(run, i, first) for i, run in enumerate(second)),
    )


def flat(document: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested settings under dotted names."""
    rows: dict[str, object] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            rows |= flat(cast(dict[str, object], value), f"{prefix}{name}.")
        else:
            rows[f"{prefix}{name}"] = value
    return rows


def number(value: object) -> float:
    """Return a JSON value as a number; nan for what is none."""
    return float(value) if isinstance(value, (int, float)) else np.nan


def _read_facts(root: Path, roots: Sequence[Path]) -> RunFacts:
    if not (root / HEADER).is_file():
        raise ConfigError(
            f"runs must be folders that nearer sft or nearer improve made, got {root} without a "
            "run.json; name the folder that --out named"
        )
    header = read_header(root)
    is_unique = sum(other.name == root.name for other in roots) == 1
    return RunFacts(
        root=root,
        name=root.name if is_unique else str(root),
        header=header,
        records=read_metrics(root),
        evaluated=_read_evaluated(root / "eval"),
    )


def _read_evaluated(folder: Path) -> Evaluated | None:
    path = folder / EVALUATION
    if not path.exists():
        return None
    info, rollouts = read_eval_info(path), read_rollouts(folder)
    return Evaluated(
        env=info.env,
        evaluation=info.evaluation,
        rollouts=_rollouts(rollouts.episodes if rollouts else ()),
    )


def _rollouts(episodes: Sequence[DrawnEpisode]) -> tuple[Rollout, ...]:
    return tuple(
        Rollout(
            agent_pos=np.array(episode.agent_pos, dtype=np.float64),
            environment_state=np.array(episode.environment_state, dtype=np.float64),
            success=episode.ended.startswith("success"),
            chunk=episode.chunk,
        )
        for episode in episodes
    )


def _read_stage_one(facts: RunFacts) -> StageOne:
    demonstrations, encoding = read_demonstrations(facts.root), read_encoding_time(facts.root)
    calibration = facts.root / CALIBRATION
    return StageOne(
        facts=facts,
        demonstrations=_rollouts(demonstrations.episodes if demonstrations else ()),
        calibration=_result(read_calibration(calibration, _ADVICE))
        if calibration.exists()
        else None,
        seeing_s=encoding.seconds if encoding else np.nan,
    )


def _read_stage_two(facts: RunFacts, index: int, first: Sequence[StageOne]) -> StageTwo:
    return StageTwo(
        facts=facts,
        index=index,
        before=_before(facts, first),
        audits=tuple(read_audits(facts.root / AUDITS)),
        kept_step=_kept_step(facts.root / "checkpoints" / "policy"),
    )


def _before(facts: RunFacts, first: Sequence[StageOne]) -> StageOne | None:
    """Return the Stage-1 run that a config names: by its path, else its folder, else the only."""
    named = Path(str(facts.settings.get("run", "")))
    for matches in (
        [run for run in first if run.facts.root == named.resolve()],
        [run for run in first if run.facts.root.name == named.name],
        first,
    ):
        if len(matches) == 1:
            return matches[0]
    return None


def _kept_step(link: Path) -> int | None:
    name = link.readlink().name if link.is_symlink() else ""
    return int(name) if name.isdigit() else None


def _result(calibration: Calibration) -> CalibrationResult:
    reliability = calibration.reliability
    return CalibrationResult(
        threshold_steps=calibration.threshold_steps,
        rule=calibration.rule,
        at_threshold=calibration.at_threshold,
        curves=calibration.curves,
        frames=reliability.num_frames,
        mean_absolute_error_steps=reliability.mean_absolute_error_steps,
        by_true_steps=reliability.by_true_steps,
        nominal=reliability.coverage.nominal,
        observed=reliability.coverage.observed,
        examples=tuple(_example(name, row) for name, row in calibration.examples.items()),
    )


def _example(name: str, example: PredictionExample) -> Example:
    return Example(
        name=name,
        edges=np.array(example.edges, dtype=np.float64),
        probabilities=np.array(example.probabilities, dtype=np.float64),
        steps_to_go=np.array(example.steps_to_go, dtype=np.float64),
    )
