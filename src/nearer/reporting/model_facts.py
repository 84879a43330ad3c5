"""What a run's files say of the model that it made: the facts of a model card.

    RUN/run.json, metrics.jsonl, calibration.json, eval/eval_info.json  ->  ModelFacts

A Stage-2 run has its reward, calibration and data from the Stage-1 run that it names.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from nearer.algorithm.early_stopping import AlarmStop
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.metrics import Record
from nearer.core.spaces import Spaces
from nearer.evaluation.calibration import Calibration, read_calibration
from nearer.evaluation.eval_info import EvalInfo, read_eval_info
from nearer.evaluation.reward_report import (
    FOLDER,
    REWARD_REPORT,
    RewardReport,
    read_reward_report,
)
from nearer.runs.checkpoint import file_hash, linked_step, pretrained_folder
from nearer.runs.documents import HEADER, RunHeader, read_header
from nearer.runs.hub import CALIBRATION, EVALUATION, REWARD, local_run, split_hub_id
from nearer.runs.json_files import UnexpectedJson, from_json, read_document
from nearer.runs.metrics import count, number, read_metrics

_BUILT_IN = ("mlp", "small-vla")
_REMAKE = "restore it, or run its command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What Stage 1 learned from, and with which settings."""

    data: str
    revision: str | None
    fraction: float
    model: str
    settings: Mapping[str, str]

    @property
    def base(self) -> str | None:
        """Return the hub id of the pretrained model that it started from; None for a built-in one.

        A folder has no name that others could use.
        """
        return hub_id(self.model) if self.model not in _BUILT_IN else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Practised:
    """What Stage 2 did.

    Attributes:
        env_steps: control steps of all robots.
        alarm: how an alarm of the audits ended practice; None: none did.
    """

    env: str
    episodes: int
    env_steps: int
    settings: Mapping[str, str]
    alarm: AlarmStop | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Everything that a model card says.

    Attributes:
        policy: folder with its config.json and model.safetensors.
        reward: the same of the frozen reward; None: its run is not here.
        calibration_file: calibration.json that belongs to the reward; None: there is none.
        evaluation_file: eval_info.json; None: nobody has evaluated.
        inputs: state numbers, action numbers and cameras, for people.
        unit: what steps-to-go counts: steps, or chunks of several.
        version: of nearer.
    """

    policy: Path
    reward: Path | None
    calibration_file: Path | None
    evaluation_file: Path | None
    kind: str
    inputs: str
    unit: str
    num_weights: int
    seed: int
    version: str
    trained: Trained | None
    practised: Practised | None
    calibration: Calibration | None
    evaluation: EvalInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _StageOneSettings:
    """Settings of a run of nearer sft that a card names."""

    data: str
    revision: str | None
    fraction: float
    model: str
    training: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _StageTwoSettings:
    """Settings of a run of nearer improve that a card names."""

    run: str
    reward: str | None
    env: str
    practice: Mapping[str, object]
    deviate: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seeded:
    """The seed among the settings of a loop."""

    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelConfig:
    """What a model's config.json says of any kind of model."""

    model: str
    spaces: Spaces


def read_model_facts(run: Path, evaluation: Path | None = None) -> ModelFacts:
    """Return what the files of a run say.

    Args:
        run: a run of nearer sft or nearer improve.
        evaluation: eval_info.json of its policy; None: eval/ in the run, if it is there.

    Raises:
        ConfigError: the folder is no run, or a file is not as nearer writes it.
        CheckpointError: its policy is missing or damaged.
    """
    header = read_header(run)
    if header.command not in ("sft", "improve"):
        raise ConfigError(
            f"{run} must be a run of nearer sft or improve, got one of {header.command}"
        )
    practice = header.part(_StageTwoSettings, run) if header.command == "improve" else None
    reward_run = _folder_of(practice.reward or practice.run) if practice else run
    data_run = _folder_of(practice.run) if practice else run
    trained = _trained(data_run) if data_run and (data_run / HEADER).exists() else None
    policy = pretrained_folder(run, "policy")
    model = read_document(_ModelConfig, policy / "config.json", _REMAKE, partly=True)
    calibration_file = _existing(reward_run / CALIBRATION) if reward_run else None
    evaluation_file = evaluation or _existing(run / "eval" / EVALUATION)
    return ModelFacts(
        policy=policy,
        reward=_reward(reward_run) if reward_run else None,
        calibration_file=calibration_file,
        evaluation_file=evaluation_file,
        kind=model.model,
        inputs=_inputs(model.spaces),
        unit=_unit(model.spaces),
        num_weights=_num_weights(policy / "model.safetensors"),
        seed=_seed(run, header, "practice" if practice else "training"),
        version=f"{header.versions.get('nearer')} ({header.git_revision[:12]})",
        trained=trained,
        practised=_practised(run, practice, header.alarm) if practice else None,
        calibration=read_calibration(calibration_file, _REMAKE) if calibration_file else None,
        evaluation=_evaluation_of(evaluation_file, policy) if evaluation_file else None,
    )


def hub_id(name: str) -> str | None:
    """Return user/name of a name that is the hub's, and of no folder that is here."""
    parts = split_hub_id(name)
    return parts[0] if parts and not os.path.exists(name) else None


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _folder_of(named: str) -> Path | None:
    """Return the folder of a run that a practice names, where it still is; None if it is gone."""
    try:
        folder = local_run(Path(named))
    except CheckpointError:
        return None
    return folder if os.path.isdir(folder) else None


def _seed(run: Path, header: RunHeader, loop: str) -> int:
    try:
        return from_json(_Seeded, header.config.get(loop), partly=True).seed
    except UnexpectedJson as error:
        raise ConfigError(
            f"{run}/run.json must name the seed of {loop}, got {error.got}; {_REMAKE}"
        ) from error


def _evaluation_of(path: Path, policy: Path) -> EvalInfo:
    """Return an evaluation, unless it is of other weights."""
    info = read_eval_info(path, _REMAKE)
    if info.policy_sha256 != file_hash(policy / "model.safetensors"):
        raise ConfigError(
            f"{path} must be of the run's policy, got one of other weights; run nearer eval again"
        )
    return info


def reward_report_of(facts: ModelFacts) -> RewardReport | None:
    """Return what nearer eval-reward measured of the reward; None where it has not been."""
    if facts.calibration_file is None:
        return None
    path = facts.calibration_file.parent / FOLDER / REWARD_REPORT
    if not path.is_file():
        return None
    return read_reward_report(path, "run nearer eval-reward again, or delete it")


def _reward(reward_run: Path) -> Path | None:
    try:
        return pretrained_folder(reward_run, REWARD)
    except CheckpointError:
        return None


def _trained(run: Path) -> Trained:
    settings = read_header(run).part(_StageOneSettings, run)
    return Trained(
        data=settings.data,
        revision=settings.revision,
        fraction=settings.fraction,
        model=settings.model,
        settings=_settings(settings.training),
    )


def _practised(run: Path, settings: _StageTwoSettings, alarm: AlarmStop | None) -> Practised:
    kept_step = linked_step(run, "policy") or 0
    records = [record for record in read_metrics(run) if number(record["step"]) <= kept_step]
    last: Record = records[-1] if records else {}
    deviations = {f"deviate.{name}": value for name, value in settings.deviate.items()}
    return Practised(
        env=settings.env,
        episodes=count(last, "practice/episodes") if records else 0,
        env_steps=count(last, "practice/env_steps") if records else 0,
        settings=_settings({**settings.practice, **deviations}),
        alarm=alarm,
    )


def _settings(settings: Mapping[str, object]) -> dict[str, str]:
    """Return the settings that are plain values, or some texts, as people read them."""
    kinds = (bool, int, float, str)
    plain = {name: str(value) for name, value in settings.items() if isinstance(value, kinds)}
    texts = {
        name: ", ".join(map(str, cast(list[object], value)))
        for name, value in settings.items()
        if isinstance(value, list) and value
    }
    return plain | texts


def _inputs(spaces: Spaces) -> str:
    numbers = spaces.agent_pos + spaces.environment_state
    cameras = [f"camera {camera}" for camera in spaces.cameras]
    parts = [f"{numbers} numbers of state", *cameras, "instruction"]
    rate = f", at {spaces.control_hz} Hz" if spaces.control_hz else ""
    return f"{', '.join(parts)}; out: {spaces.action} numbers an action{rate}"


def _unit(spaces: Spaces) -> str:
    chunk = spaces.chunking.chunk
    return "steps" if chunk == 1 else f"chunks of {chunk} steps"


def _num_weights(path: Path) -> int:
    try:
        with cast(Any, safe_open)(path, framework="numpy") as file:
            names: Iterable[str] = file.keys()
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} must be a whole safetensors file, got: {error}; copy it again, or use an "
            "older checkpoint"
        ) from error
