"""What the page shows of run folders, as values; a file that a run does not have yet is None.

The values:

    RunData     what runs of both stages have: run.json, metrics, evaluation
    StageOne    settings, demonstrations, calibration
    StageTwo    settings, audits, and the Stage-1 run that it started from
    Report      the runs of one page
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Float

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.core.metrics import Record
from nearer.evaluation.audit import Audit
from nearer.evaluation.calibration import Calibration, read_calibration
from nearer.evaluation.eval_info import read_eval_info
from nearer.evaluation.perception_document import Perception, read_perception
from nearer.evaluation.person_audit import audits_of
from nearer.evaluation.reward_report import (
    FOLDER,
    REWARD_REPORT,
    RewardReport,
    read_reward_report,
)
from nearer.evaluation.success import Evaluation
from nearer.fleets.actors.control_log import CONTROL, ControlRecord, read_control
from nearer.fleets.actors.faults import FAULTS, Fault, read_faults
from nearer.reporting.html.paths import shown_path
from nearer.reporting.html.suggested_commands import EVAL_REWARD
from nearer.runs.checkpoint import linked_step
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
from nearer.runs.json_files import read_json_object
from nearer.runs.metrics import number, read_metrics

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
    """An evaluation.

    Attributes:
        rollouts: the first ones, in the order of its seeds.
        perception: of its vision encoder; None: nothing was recorded.
    """

    env: str
    evaluation: Evaluation
    rollouts: tuple[Rollout, ...]
    perception: Perception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """What runs of both stages have.

    Attributes:
        root: the run's folder.
        folders: relative to which the page shows paths: its own, and the one in which the run was
            made, beside its data.
        name: unique on the page.
        header: run.json.
        env: that the run names in its config; None without one.
        chunk: control steps of one decision of its policy.
        records: metrics.jsonl.
        evaluated: None before nearer eval.
    """

    root: Path
    folders: tuple[Path, ...]
    name: str
    header: RunHeader
    env: str | None
    chunk: int
    records: Sequence[Record]
    evaluated: Evaluated | None

    @property
    def shown_root(self) -> str:
        """Return the run's folder as the page shows it."""
        return shown_path(self.root, self.folders)

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
class TrainingSettings:
    """Settings of Stage-1 training that the page explains.

    Attributes:
        policy_checkpoint: from which the policy starts: last, or the best by held-out loss.
        reward_checkpoint: that becomes the reward model, likewise.
        other_instructions: of the instruction objective; 0 without it.
    """

    policy_checkpoint: str
    reward_checkpoint: str
    other_instructions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedCheckpoint:
    """The checkpoint that was selected by a held-out loss: its update, and the loss in nats."""

    update: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOne(RunData):
    """A Stage-1 run.

    Attributes:
        demonstrations: the first held-out ones.
        calibration: of the success detector; None before training has ended.
        reward_report: None before nearer eval-reward.
        encoding_s: time that its vision encoder took before the first update; nan without one.
    """

    training: TrainingSettings
    demonstrations: tuple[Rollout, ...]
    calibration: Calibration | None
    reward_report: RewardReport | None
    encoding_s: float

    def takes_last(self, metric: str) -> bool:
        """Tell whether the last checkpoint is taken, whatever its held-out loss."""
        settings = {
            "loss_bc": self.training.policy_checkpoint,
            "loss_steps_to_go": self.training.reward_checkpoint,
        }
        return settings[metric] == "last"

    def selected(self, metric: str) -> SelectedCheckpoint | None:
        """Return the checkpoint that was selected by a loss; None before the first validation."""
        held_out = self.series(f"sft/val_{metric}")
        validated = np.flatnonzero(np.isfinite(held_out))
        if not len(validated):
            return None
        row = int(validated[-1] if self.takes_last(metric) else np.nanargmin(held_out))
        update = int(number(self.records[row]["step"]))
        return SelectedCheckpoint(update=update, loss=float(held_out[row]))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTwo(RunData):
    """A Stage-2 run.

    Attributes:
        updates_per_iteration: gradient updates, of all epochs.
        index: of this run among the page's Stage-2 runs, from 0.
        before: the Stage-1 run it started from, if it is on the page.
        kept_step: iterations behind the checkpoint that was kept as the policy.
        faults: of its robots, oldest first.
        control: how well they had kept their control rate at the end; None: nobody paced them.
    """

    updates_per_iteration: int
    index: int
    before: StageOne | None
    audits: tuple[Audit, ...]
    kept_step: int | None
    faults: tuple[Fault, ...]
    control: ControlRecord | None

    def episodes_at(self, step: int | None) -> float:
        """Return the episodes practised up to a step of the metrics; without it, up to the last."""
        rows = [record for record in self.records if record.get("step") == step] or self.records
        return number(rows[-1].get("practice/episodes")) if rows else np.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The runs of one page, each stage in the order given."""

    stage_one: tuple[StageOne, ...]
    stage_two: tuple[StageTwo, ...]

    @property
    def runs(self) -> tuple[RunData, ...]:
        """Return the runs of both stages, Stage 1 first."""
        return (*self.stage_one, *self.stage_two)


def read_report(roots: Sequence[Path], folder: Path | None = None) -> Report:
    """Read the runs of a page.

    Args:
        roots: folders of runs.
        folder: of the page; None: that of the last run.

    Raises:
        ConfigError: none are given, a folder is no run, or a file of it cannot be read.
    """
    unique = list(dict.fromkeys(root.resolve() for root in roots))
    if not unique:
        raise ConfigError("runs must be one or more run folders, got none; name one")
    page_folder = folder.resolve() if folder else unique[-1].parent
    headers = {root: _read_header(root) for root in unique}
    names = {root: _name(root, unique) for root in unique}
    folders = {root: (page_folder, *_made_in(headers[root])) for root in unique}
    first = tuple(
        _read_stage_one(root, folders[root], names[root], header)
        for root, header in headers.items()
        if header.command == "sft"
    )
    second = [root for root in unique if headers[root].command == "improve"]
    return Report(
        stage_one=first,
        stage_two=tuple(
            _read_stage_two(root, folders[root], names[root], headers[root], index, first)
            for index, root in enumerate(second)
        ),
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


def _read_header(root: Path) -> RunHeader:
    if not (root / HEADER).is_file():
        raise ConfigError(
            f"runs must be folders that nearer sft or nearer improve made, got {root} without a "
            "run.json; name the folder that --out named"
        )
    header = read_header(root)
    if header.command not in ("sft", "improve"):
        raise ConfigError(
            f"{root} must be a run of nearer sft or nearer improve, got command "
            f"{header.command!r} in run.json; {_ADVICE}"
        )
    return header


def _name(root: Path, roots: Sequence[Path]) -> str:
    """Return the name of a run's folder, after as many of those around it as tell it apart."""
    for parts in range(1, len(root.parts)):
        name = root.parts[-parts:]
        if sum(other.parts[-parts:] == name for other in roots) == 1:
            return "/".join(name)
    return root.name


def _made_in(header: RunHeader) -> tuple[Path, ...]:
    """Return the folder in which a run was made, which its config names if it is absolute."""
    out = Path(str(header.config.get("out", "")))
    return (out.parent,) if out.is_absolute() else ()


def _read_evaluated(folder: Path) -> Evaluated | None:
    path = folder / EVALUATION
    if not path.exists():
        return None
    info, rollouts = read_eval_info(path), read_rollouts(folder)
    return Evaluated(
        env=info.env,
        evaluation=info.evaluation,
        rollouts=_rollouts(rollouts.episodes if rollouts else ()),
        perception=read_perception(folder),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _CalibrationSettings:
    env: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChunkingSettings:
    chunk: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _StageOneSettings:
    """What the page needs of the config of nearer sft."""

    calibration: _CalibrationSettings
    chunking: _ChunkingSettings
    training: TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class _PracticeSettings:
    updates_per_iteration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _DeviationSettings:
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _StageTwoSettings:
    """What the page needs of the config of nearer improve."""

    run: Path
    env: str
    practice: _PracticeSettings
    deviate: _DeviationSettings


def _read_stage_one(
    root: Path, folders: tuple[Path, ...], name: str, header: RunHeader
) -> StageOne:
    settings = header.part(_StageOneSettings, root)
    demonstrations, encoding = read_demonstrations(root), read_encoding_time(root)
    calibration = root / CALIBRATION
    reward_report = root / FOLDER / REWARD_REPORT
    return StageOne(
        root=root,
        folders=folders,
        name=name,
        header=header,
        env=settings.calibration.env,
        chunk=settings.chunking.chunk,
        records=read_metrics(root),
        evaluated=_read_evaluated(root / "eval"),
        training=settings.training,
        demonstrations=_rollouts(demonstrations.episodes if demonstrations else ()),
        calibration=read_calibration(calibration, _ADVICE) if calibration.exists() else None,
        reward_report=read_reward_report(reward_report, f"measure again with {EVAL_REWARD}")
        if reward_report.exists()
        else None,
        encoding_s=encoding.seconds if encoding else np.nan,
    )


def _read_stage_two(
    root: Path,
    folders: tuple[Path, ...],
    name: str,
    header: RunHeader,
    index: int,
    first: Sequence[StageOne],
) -> StageTwo:
    settings = header.part(_StageTwoSettings, root)
    return StageTwo(
        root=root,
        folders=folders,
        name=name,
        header=header,
        env=settings.env,
        chunk=_chunk_of_policy(root),
        records=read_metrics(root),
        evaluated=_read_evaluated(root / "eval"),
        updates_per_iteration=settings.practice.updates_per_iteration * settings.deviate.epochs,
        index=index,
        before=_before(settings.run, first),
        audits=tuple(audits_of(root)),
        kept_step=linked_step(root, "policy"),
        faults=tuple(read_faults(root / FAULTS)),
        control=next(reversed(read_control(root / CONTROL)), None),
    )


def _before(named: Path, first: Sequence[StageOne]) -> StageOne | None:
    """Return the Stage-1 run that a config names: by its path, else its folder, else the only."""
    for matches in (
        [run for run in first if os.path.realpath(named) == str(run.root)],
        [run for run in first if run.root.name == named.name],
        first,
    ):
        if len(matches) == 1:
            return matches[0]
    return None


def _chunk_of_policy(root: Path) -> int:
    """Return the control steps of one decision, from the saved policy; 1 before the first."""
    path = root / "checkpoints/policy/pretrained_model/config.json"
    if not path.is_file():
        return 1
    chunk = flat(read_json_object(path, "copy the run again")).get("spaces.chunking.chunk", 1)
    return chunk if isinstance(chunk, int) else 1
