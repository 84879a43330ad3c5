"""What a run's files say of the model that it made: the facts of a model card.

    RUN/run.json, metrics.jsonl, calibration.json, eval/eval_info.json  ->  Published

A Stage-2 run has its reward, calibration and data from the Stage-1 run that it names.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from nearer.core.errors import CheckpointError, ConfigError
from nearer.evaluation.success import Evaluation, evaluation_of
from nearer.runs.checkpoint import file_hash, pretrained_folder
from nearer.runs.hub import CALIBRATION, EVALUATION, REWARD, WEIGHTS, local_run, split_hub_id
from nearer.runs.run import read_header, read_json, read_metrics

_BUILT_IN = ("mlp", "small-vla")
_REMAKE = "restore it, or run its command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """How the success detector did on one kind of labelled episodes, at the chosen threshold.

    Attributes:
        fired: episodes it fired in; precision is the share of these where it was right.
        episodes: all of them.
    """

    where: str
    precision: float
    recall: float
    fired: int
    episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """The detector's threshold, and how it did.

    Attributes:
        threshold_steps: s, in control steps.
    """

    threshold_steps: float
    detected: tuple[Detected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What Stage 1 learned from, and with which settings."""

    data: str
    revision: str | None
    share: float
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
    """

    env: str
    episodes: int
    env_steps: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Everything that a model card tells.

    Attributes:
        policy: folder with its config.json and model.safetensors.
        reward: the same of the frozen reward; None: its run is not here.
        calibration: calibration.json that belongs to the reward; None: there is none.
        evaluation: eval_info.json; None: nobody has evaluated.
        inputs: state numbers, action numbers and cameras, for people.
        unit: what steps-to-go counts: steps, or chunks of several.
        version: of nearer.
    """

    policy: Path
    reward: Path | None
    calibration: Path | None
    evaluation: Path | None
    kind: str
    inputs: str
    unit: str
    num_weights: int
    seed: int
    version: str
    trained: Trained | None
    practised: Practised | None
    calibrated: Calibrated | None
    evaluated: Evaluation | None
    evaluated_env: str


def read_published(run: Path, evaluation: Path | None = None) -> Published:
    """Return what the files of a run say.

    Args:
        run: a run of nearer sft or nearer improve.
        evaluation: eval_info.json of its policy; None: eval/ in the run, if it is there.

    Raises:
        ConfigError: the folder is no run, or a file is not as nearer wrote it.
        CheckpointError: its policy is missing or damaged.
    """
    header = read_header(run)
    try:
        return _read(run, header, evaluation or run / "eval" / EVALUATION, evaluation is not None)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{run} must hold files as nearer wrote them, got {type(error).__name__}: {reason}; "
            f"{_REMAKE}"
        ) from error


def hub_id(name: str) -> str | None:
    """Return user/name of a name that is the hub's, and of no folder that is here."""
    found = split_hub_id(name)
    return found[0] if found and not Path(name).exists() else None


def _read(run: Path, header: Mapping[str, Any], info: Path, needs_info: bool) -> Published:
    command, config = str(header["command"]), header["config"]
    if command not in ("sft", "improve"):
        raise ConfigError(f"{run} must be a run of nearer sft or improve, got one of {command}")
    practises = command == "improve"
    stage_one = _folder_of(config.get(REWARD) or config["run"]) if practises else run
    learned = _folder_of(config["run"]) if practises else run
    first = read_header(learned) if learned and (learned / "run.json").exists() else None
    policy = pretrained_folder(run, "policy")
    described = read_json(policy / "config.json", _REMAKE)
    calibration = stage_one / CALIBRATION if stage_one else None
    if calibration is not None and not calibration.is_file():
        calibration = None
    evaluation = read_json(info, _REMAKE) if needs_info or info.is_file() else None
    if evaluation:
        _check_evaluated(evaluation, policy, info)
    return Published(
        policy=policy,
        reward=_reward(stage_one) if stage_one else None,
        calibration=calibration,
        evaluation=info if evaluation else None,
        kind=str(described["model"]),
        inputs=_inputs(described["spaces"]),
        unit=_unit(described["spaces"]),
        num_weights=_num_weights(policy / "model.safetensors"),
        seed=int(config["practice" if practises else "training"]["seed"]),
        version=f"{header['versions']['nearer']} ({str(header['git_revision'])[:12]})",
        trained=_trained(first["config"]) if first else None,
        practised=_practised(run, config) if practises else None,
        calibrated=_calibrated(read_json(calibration, _REMAKE)) if calibration else None,
        evaluated=_evaluated(evaluation) if evaluation else None,
        evaluated_env=str(evaluation["env"]) if evaluation else "",
    )


def _folder_of(named: object) -> Path | None:
    """Return the folder of a run that a practice names, where it still is; None if it is gone."""
    try:
        folder = local_run(Path(str(named)))
    except CheckpointError:
        return None
    return folder if folder.is_dir() else None


def _check_evaluated(evaluation: Mapping[str, Any], policy: Path, info: Path) -> None:
    """Raise ConfigError if an evaluation says that it is of other weights."""
    weights = evaluation.get(WEIGHTS)
    if weights is not None and weights != file_hash(policy / "model.safetensors"):
        raise ConfigError(
            f"{info} must be of the run's policy, got one of other weights; run nearer eval again"
        )


def trust_in(published: Published) -> Mapping[str, Any] | None:
    """Return what nearer eval-reward found of the reward; None where nobody asked."""
    if published.calibration is None:
        return None
    path = published.calibration.parent / "eval_reward" / CALIBRATION
    return read_json(path, _REMAKE) if path.is_file() else None


def _reward(stage_one: Path) -> Path | None:
    try:
        return pretrained_folder(stage_one, REWARD)
    except CheckpointError:
        return None


def _trained(config: Mapping[str, Any]) -> Trained:
    return Trained(
        data=str(config["data"]),
        revision=None if config["revision"] is None else str(config["revision"]),
        share=float(config["fraction"]),
        model=str(config["model"]),
        settings=_settings(config["training"]),
    )


def _practised(run: Path, config: Mapping[str, Any]) -> Practised:
    kept = int((run / "checkpoints" / "policy").resolve().name)
    records = [one for one in read_metrics(run) if one["step"] <= kept]
    last = records[-1] if records else {}
    deviations = {f"deviate.{name}": value for name, value in config["deviate"].items()}
    return Practised(
        env=str(config["env"]),
        episodes=int(last.get("practice/episodes", 0)),
        env_steps=int(last.get("practice/env_steps", 0)),
        settings=_settings({**config["practice"], **deviations}),
    )


def _calibrated(document: Mapping[str, Any]) -> Calibrated:
    chosen = cast(dict[str, dict[str, Any]], document["chosen"])
    return Calibrated(
        threshold_steps=_finite(document["threshold_steps"]),
        detected=tuple(
            Detected(
                where=where,
                precision=_finite(row["precision"]),
                recall=_finite(row["recall"]),
                fired=int(row["fired"]),
                episodes=int(row["episodes"]),
            )
            for where, row in chosen.items()
        ),
    )


def _evaluated(document: dict[str, Any]) -> Evaluation:
    """Return an evaluation whose numbers can be summed up."""
    evaluation = evaluation_of(document)
    if not evaluation.results:
        raise ValueError("an evaluation without episodes")
    for number in (evaluation.mean_length, evaluation.success.value, evaluation.seed):
        _finite(number)
    return evaluation


def _settings(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that are plain values, or some texts, as people read them."""
    kinds = (bool, int, float, str)
    plain = {str(name): str(one) for name, one in document.items() if isinstance(one, kinds)}
    texts = {
        str(name): ", ".join(map(str, cast(list[object], one)))
        for name, one in document.items()
        if isinstance(one, list) and one
    }
    return plain | texts


def _inputs(spaces: Mapping[str, Any]) -> str:
    cameras = [f"{name} {height}x{width}" for name, height, width in spaces.get("cameras", ())]
    numbers = int(spaces["agent_pos"]) + int(spaces["environment_state"])
    parts = [f"{numbers} numbers of state", *(f"camera {one}" for one in cameras), "instruction"]
    return f"{', '.join(parts)}; out: {int(spaces['action'])} numbers an action" + _rate(spaces)


def _unit(spaces: Mapping[str, Any]) -> str:
    chunk = int(spaces.get("chunking", {}).get("chunk", 1))
    return "steps" if chunk == 1 else f"chunks of {chunk} steps"


def _rate(spaces: Mapping[str, Any]) -> str:
    hz = spaces.get("control_hz")
    return f", at {int(hz)} Hz" if hz else ""


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


def _finite(number: Any) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{value} in place of a finite number")
    return value
