"""What the report reads from run folders, as values; a file a run does not have yet is None.

StageOne    losses, calibration, demonstrations, evaluation
StageTwo    practice, audits, evaluation
Report      the runs of one page, and which Stage-2 run started from which Stage-1 run
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.core.intervals import Rate
from nearer.evaluation.audit import Audit, read_audits
from nearer.evaluation.success import Evaluation, evaluation_of
from nearer.evaluation.threshold import DetectorCurve
from nearer.runs.run import SEEING, read_header, read_json, read_metrics

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
class CalibrationResult:
    """A calibration.json: the chosen threshold s, what it was chosen on, and reliability.

    Attributes:
        by_true_steps: predicted steps-to-go, grouped by the true ones.
        nominal: levels of the predicted quantiles.
        observed: share of the truth below each.
    """

    threshold_steps: float
    rule: str
    curves: Mapping[str, DetectorCurve]
    frames: int
    mean_absolute_error_steps: float
    by_true_steps: Sequence[Mapping[str, float]]
    nominal: Sequence[float]
    observed: Sequence[float]
    examples: tuple[Example, ...]

    def chosen(self) -> list[Detection]:
        """Return the detector's numbers at the chosen threshold, source by source."""
        return [_detection(name, one, self.threshold_steps) for name, one in self.curves.items()]


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
    header: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    evaluated: Evaluated | None

    @property
    def settings(self) -> dict[str, Any]:
        """Return the run's config, nested settings under dotted names."""
        return flat(self.header.get("config", {}))

    @property
    def alarms(self) -> list[tuple[int, str]]:
        """Return step and sentence of every alarm."""
        return [(one["step"], str(one["alarm"])) for one in self.records if one.get("alarm")]

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
        seeing_s: time that its sight looked and learned before the first update; nan without one.
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
        return ChosenLoss(update=int(self.facts.records[row]["step"]), loss=float(held_out[row]))


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
        rows = [one for one in records if one.get("step") == step] or records
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
    for one in facts:
        if one.header.get("command") not in ("sft", "improve"):
            raise ConfigError(
                f"{one.root} must be a run of nearer sft or nearer improve, got command "
                f"{one.header.get('command')!r} in run.json; {_ADVICE}"
            )
    first = tuple(_read_stage_one(one) for one in facts if one.header["command"] == "sft")
    second = [one for one in facts if one.header["command"] == "improve"]
    return Report(
        stage_one=first,
        stage_two=tuple(_read_stage_two(one, i, first) for i, one in enumerate(second)),
    )


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    rows: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            rows |= flat(cast(Mapping[str, Any], value), f"{prefix}{name}.")
        else:
            rows[f"{prefix}{name}"] = value
    return rows


def number(value: object) -> float:
    """Return a JSON value as a number; nan for what is none."""
    return float(value) if isinstance(value, (int, float)) else np.nan


def _read_facts(root: Path, roots: Sequence[Path]) -> RunFacts:
    if not (root / "run.json").is_file():
        raise ConfigError(
            f"runs must be folders that nearer sft or nearer improve made, got {root} without a "
            "run.json; name the folder that --out named"
        )
    header = read_header(root)
    is_known = sum(other.name == root.name for other in roots) == 1
    return RunFacts(
        root=root,
        name=root.name if is_known else str(root),
        header=header,
        records=read_metrics(root),
        evaluated=_read_evaluated(root / "eval"),
    )


def _read_evaluated(folder: Path) -> Evaluated | None:
    path = folder / "eval_info.json"
    if not path.exists():
        return None
    document = read_json(path, "evaluate again with nearer eval")
    try:
        evaluation = evaluation_of(document)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} must be one nearer eval wrote, got {error}; {_ADVICE}"
        ) from error
    return Evaluated(
        env=str(document.get("env", "")),
        evaluation=evaluation,
        rollouts=_read_rollouts(folder / "rollouts.json"),
    )


def _read_rollouts(path: Path) -> tuple[Rollout, ...]:
    if not path.exists():
        return ()
    document = read_json(path, _ADVICE)
    try:
        return tuple(
            Rollout(
                agent_pos=np.array(one["agent_pos"], dtype=np.float64),
                environment_state=np.array(one["environment_state"], dtype=np.float64),
                success=str(one["ended"]).startswith("success"),
                chunk=int(one.get("chunk", 1)),
            )
            for one in document["episodes"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} must hold rollouts, got {error}; {_ADVICE}") from error


def _read_stage_one(facts: RunFacts) -> StageOne:
    seeing = facts.root / SEEING
    return StageOne(
        facts=facts,
        demonstrations=_read_rollouts(facts.root / "demonstrations.json"),
        calibration=_read_calibration(facts.root / "calibration.json"),
        seeing_s=number(read_json(seeing, _ADVICE).get("seconds")) if seeing.exists() else np.nan,
    )


def _read_stage_two(facts: RunFacts, index: int, first: Sequence[StageOne]) -> StageTwo:
    return StageTwo(
        facts=facts,
        index=index,
        before=_before(facts, first),
        audits=tuple(read_audits(facts.root / "audits.jsonl")),
        kept_step=_kept_step(facts.root / "checkpoints" / "policy"),
    )


def _before(facts: RunFacts, first: Sequence[StageOne]) -> StageOne | None:
    """Return the Stage-1 run that a config names: by its path, else its folder, else the only."""
    named = Path(str(facts.settings.get("run", "")))
    for matches in (
        [one for one in first if one.facts.root == named.resolve()],
        [one for one in first if one.facts.root.name == named.name],
        first,
    ):
        if len(matches) == 1:
            return matches[0]
    return None


def _kept_step(link: Path) -> int | None:
    name = link.readlink().name if link.is_symlink() else ""
    return int(name) if name.isdigit() else None


def _read_calibration(path: Path) -> CalibrationResult | None:
    if not path.exists():
        return None
    try:
        return calibration_in(read_json(path, _ADVICE))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} must be one nearer sft wrote, got {error}; {_ADVICE}") from error


def calibration_in(document: Mapping[str, Any]) -> CalibrationResult:
    """Return what a calibration.json says, of nearer sft or of nearer eval-reward."""
    measured = document["steps_to_go"]
    examples: dict[str, Any] = document.get("examples") or {}
    return CalibrationResult(
        threshold_steps=float(document["threshold_steps"]),
        rule=str(document["rule"]),
        curves={name: _curve_of(one) for name, one in document["curves"].items()},
        frames=int(measured["frames"]),
        mean_absolute_error_steps=number(measured["mean_absolute_error_steps"]),
        by_true_steps=[
            {key: number(value) for key, value in group.items()}
            for group in measured["by_true_steps"]
        ],
        nominal=[number(level) for level in measured["coverage"]["nominal"]],
        observed=[number(share) for share in measured["coverage"]["observed"]],
        examples=tuple(
            Example(
                name=name,
                edges=np.array(one["edges"], dtype=np.float64),
                probabilities=np.array(one["probabilities"], dtype=np.float64),
                steps_to_go=np.array(one["steps_to_go"], dtype=np.float64),
            )
            for name, one in examples.items()
        ),
    )


def _curve_of(document: Mapping[str, Any]) -> DetectorCurve:
    return DetectorCurve(
        thresholds_steps=tuple(document["thresholds_steps"]),
        precision=tuple(map(number, document["precision"])),
        recall=tuple(map(number, document["recall"])),
        fired=tuple(document["fired"]),
        delay_steps=tuple(map(number, document["delay_steps"])),
        episodes=document["episodes"],
        fulfilled=document["fulfilled"],
    )


def _detection(source: str, curve: DetectorCurve, threshold_steps: float) -> Detection:
    thresholds = np.array(curve.thresholds_steps)
    row = int(np.abs(thresholds - threshold_steps).argmin())
    precision = curve.precision[row]
    right = round(precision * curve.fired[row]) if np.isfinite(precision) else 0
    return Detection(
        source=source,
        precision=Rate(successes=right, total=curve.fired[row]),
        recall=Rate(successes=right, total=curve.fulfilled),
        delay_steps=number(curve.delay_steps[row]),
    )
