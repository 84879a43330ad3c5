"""The settings of every command, read from the command line by tyro and kept in the run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_type_hints

import tyro

from nearer.algorithm.early_stopping import PlateauRule
from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.sft_settings import LEARNING_RATE, SFTTraining
from nearer.core.action_chunks import Chunking
from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings
from nearer.evaluation.audit_settings import AuditPlan
from nearer.models.settings import VARIANTS, MLPConfig, SmallVLAConfig, VLMConfig
from nearer.runs.trackers import TrackerName

Flat = tyro.conf.arg(name="")
"""The settings of a nested config are flags of the command itself."""


Track = Annotated[tuple[TrackerName, ...], tyro.conf.arg(metavar="[NAME ...]")]
"""Trackers of a run, besides metrics.jsonl."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectConfig:
    """Collect demonstrations from an env and its scripted demonstrator.

    Attributes:
        env: Gymnasium id.
        episodes: demonstrations to try; those that fail or are too short are left out.
        out: new folder for the LeRobotDataset.
        max_steps: control steps an episode may take.
        min_observations: shorter episodes are left out.
        fps: control rate that the data set states, Hz; none: the env's, or 10 if it has none.
        robots: simulators that run in lockstep.
        seed: of starts and demonstrator.
    """

    env: str
    out: Path
    episodes: int = 10_000
    max_steps: int = 140
    min_observations: int = 10
    fps: int | None = None
    robots: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(
            self,
            episodes="[1, inf)",
            max_steps="[1, inf)",
            min_observations="[2, inf)",
            robots="[1, inf)",
            seed="[0, inf)",
        )
        if self.fps is not None:
            check_settings(self, fps="[1, inf)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How the detector's threshold is chosen.

    Attributes:
        env: Gymnasium id, if its truth is to label rollouts too.
        rollouts: episodes of the policy that are labelled.
        rollout_steps: control steps of each.
        min_precision: share of detections to be right, on rollouts if any.
    """

    env: str | None = None
    rollouts: int = 200
    rollout_steps: int = 140
    min_precision: float = 0.98

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="calibration.",
            rollouts="[1, inf)",
            rollout_steps="[1, inf)",
            min_precision="(0, 1]",
        )


MODEL_SETTINGS = ("mlp", "vla", "vlm")
"""Fields of `SFTConfig`, each for one kind of model."""


PRETRAINED_RATE = 1e-4
"""AdamW's peak for a vision-language model: it must not forget what it knows."""


def settings_of(model: str) -> str:
    """Return which of `MODEL_SETTINGS` a model has: vlm, unless it is built in."""
    return "mlp" if model == "mlp" else "vla" if model in VARIANTS else "vlm"


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTConfig:
    """Stage 1: fine-tune a model on demonstrations (behavioural cloning and steps-to-go).

    Attributes:
        data: folder of a LeRobotDataset v3.0, or its hub id (user/name).
        revision: of the hub's data set.
        share: of the data set's episodes that are used, drawn by --seed.
        model: small-vla, mlp (states), or a vision-language model's hub id or folder; its own
            settings: --model NAME --help.
        vision_encoder_updates: gradient updates of small-vla's sight, first, on the frames.
        cache: folder of decoded frames and looks; none: ~/.cache/nearer.
        out: the run's folder; outputs: outputs/sft/DATE/TIME_MODEL.
        track: shows metrics in tensorboard, wandb, trackio.
        resume: continue the run in --out, with the settings it has.
    """

    out: Path = Path("outputs")
    data: str = ""
    revision: str | None = None
    share: float = 1.0
    model: str = "small-vla"
    vision_encoder_updates: int = 300
    cache: Path | None = None
    track: Track = ("tensorboard",)
    resume: bool = False
    mlp: MLPConfig = field(default_factory=MLPConfig)
    vla: tyro.conf.Suppress[SmallVLAConfig] = field(default_factory=SmallVLAConfig)
    vlm: VLMConfig = field(default_factory=VLMConfig)
    calibration: Calibration = field(default_factory=Calibration)
    chunking: Annotated[Chunking, Flat] = field(default_factory=Chunking)
    training: Annotated[SFTTraining, Flat] = field(default_factory=SFTTraining)

    def __post_init__(self) -> None:
        check_settings(self, share="(0, 1]", vision_encoder_updates="[0, inf)")
        if self.training.learning_rate is None:
            rate = PRETRAINED_RATE if settings_of(self.model) == "vlm" else LEARNING_RATE
            object.__setattr__(self, "training", replace(self.training, learning_rate=rate))
        if self.calibration.env is not None:
            self.chunking.decisions_within(self.calibration.rollout_steps)
        others = self.training.other_instructions
        if settings_of(self.model) != "vla" and others:
            raise ConfigError(
                "--other-instructions must be 0 unless --model is small-vla, which alone answers "
                f"the third question, got {others}; leave it out"
            )

    @property
    def sizes(self) -> MLPConfig | SmallVLAConfig | VLMConfig:
        """Return the sizes of the chosen model; it has a head for what training asks of it."""
        if settings_of(self.model) == "vla":
            return replace(self.vla, answers_instruction=self.training.other_instructions > 0)
        return self.mlp if self.model == "mlp" else self.vlm


@dataclass(frozen=True, slots=True, kw_only=True)
class ImproveConfig:
    """Stage 2: let a policy practise, with a frozen copy of the Stage-1 model as its reward.

    Attributes:
        run: Stage-1 run with policy, reward and calibration, or its hub id.
        reward: run or checkpoint that judges in place of the run's own reward; its calibration.
        env: Gymnasium id.
        out: the run's folder; outputs: outputs/improve/DATE/TIME_RUN.
        robots: simulators that run in lockstep.
        threshold: s of the detector, control steps (or chunks); none: as calibrated.
        track: shows metrics in tensorboard, wandb, trackio.
        resume: continue the run in --out, with the settings it has.
    """

    out: Path = Path("outputs")
    run: Path = Path()
    reward: Path | None = None
    env: str = ""
    robots: int = 8
    threshold: float | None = None
    track: Track = ("tensorboard",)
    resume: bool = False
    practice: Annotated[Practice, Flat] = field(default_factory=Practice)
    plateau: Annotated[PlateauRule, Flat] = field(default_factory=PlateauRule)
    audits: Annotated[AuditPlan, Flat] = field(default_factory=AuditPlan)
    deviate: Deviations = field(default_factory=Deviations)

    def __post_init__(self) -> None:
        check_settings(self, robots="[1, inf)")
        practice = self.practice
        practice.check_room(self.robots)
        if self.threshold is not None and not 0 <= self.threshold <= practice.max_steps:
            raise ConfigError(
                f"--threshold must lie between 0 and the time limit of {practice.max_steps} "
                f"steps (--max-steps), got {self.threshold}; leave it out to use the calibrated one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """Measure a policy by the simulator's truth, on seeded starts.

    Attributes:
        checkpoint: a run, a checkpoint of it, or a model's hub id (user/name).
        env: Gymnasium id.
        episodes: starts.
        against: eval_info.json of another policy on the same starts, for a paired comparison.
        out: folder for eval_info.json; none: eval/ in the run, outputs/eval/ for a hub id.
        max_steps: control steps an episode may take.
        robots: simulators that run in lockstep.
        seed: of the starts; the same seed gives every policy the same ones.
        videos: starts that are filmed for the report, the first ones; 0 for none.
    """

    checkpoint: Path
    env: str
    episodes: int = 1000
    against: Path | None = None
    out: Path | None = None
    max_steps: int = 140
    robots: int = 250
    seed: int = 0
    videos: int = 6

    def __post_init__(self) -> None:
        check_settings(
            self,
            episodes="[1, inf)",
            max_steps="[1, inf)",
            robots="[1, inf)",
            seed="[0, inf)",
            videos="[0, inf)",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """Write one self-contained HTML page about runs.

    Attributes:
        runs: folders of runs, Stage 1 first.
        out: the page; none: report.html beside the last run.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise ConfigError(
                "the runs must be one folder or more, got none; pass nearer report RUN RUN"
            )


Config = TypeVar("Config", SFTConfig, ImproveConfig)
_MAY_CHANGE = ("out", "resume", "training.processes")
"""What a run that is continued need not have been started with."""


def to_json(config: Any) -> dict[str, Any]:
    """Return a config as JSON values; `from_json` is its inverse."""
    return _plain(asdict(config))


def from_json(kind: type[Config], document: Any) -> Config:
    """Return the config that `to_json` wrote.

    Raises:
        ConfigError: a setting is missing or unknown: another version of nearer wrote it.
    """
    try:
        return _rebuild(kind, document)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"the run's config must be one this version of nearer wrote, got {error}; "
            "continue the run with the version that run.json names"
        ) from error


def resumed(given: Config, saved: Config) -> Config:
    """Return the settings of a run that is continued: the saved ones.

    Raises:
        ConfigError: a flag asks for something else than the run was started with.
    """
    default = type(given)(out=given.out)
    _check_same(given, saved, default)
    same = as_resumed(saved, given.out)
    if isinstance(same, SFTConfig) and isinstance(given, SFTConfig):
        now = given.training.processes
        same = replace(same, training=replace(same.training, processes=now))
    return same


def as_resumed(saved: Config, out: Path) -> Config:
    """Return the settings of a run with which `--resume` continues it."""
    return replace(saved, out=out, resume=True)


def check_same(given: Config, saved: Config) -> None:
    """Raise ConfigError unless both mean the same run."""
    _check_same(given, saved, saved)


def _check_same(given: Config, saved: Config, default: Config) -> None:
    wanted, kept, unset = (_flat(to_json(config)) for config in (given, saved, default))
    for name, value in wanted.items():
        if name not in _MAY_CHANGE and value not in (unset[name], kept[name]):
            raise ConfigError(
                f"--resume must continue {given.out} as it was started, with {name} = "
                f"{kept[name]}, got {value}; leave the flag out, or start a new run with another "
                "--out"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in cast(dict[str, Any], value).items()}
    if isinstance(value, tuple):
        return list(cast(tuple[Any, ...], value))
    return str(value) if isinstance(value, Path) else value


def _rebuild(kind: Any, document: Any) -> Any:
    if not isinstance(document, dict):
        raise TypeError(f"{document!r} in place of settings")
    document = cast(dict[str, Any], document)
    hints = get_type_hints(kind)
    unknown = document.keys() - hints.keys()
    if unknown:
        raise KeyError(*sorted(unknown))
    values = {one.name: document[one.name] for one in fields(kind)}
    for name, value in values.items():
        if is_dataclass(hints[name]):
            values[name] = _rebuild(hints[name], value)
        elif value is not None and hints[name] in (Path, Path | None):
            values[name] = Path(value)
        elif isinstance(value, list):
            values[name] = tuple(cast(list[Any], value))
    return kind(**values)


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            rows |= _flat(cast(dict[str, Any], value), f"{prefix}{name}.")
        else:
            rows[prefix + name] = value
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """Run a whole recipe, small, on two CPU cores.

    Attributes:
        which: the domain: the tabletop (pictures and language) or the point mass (states).
        out: folder for data, runs and report; outputs: a new one, outputs/demo/DATE/TIME_WHICH.
        episodes: demonstrations; none: as many as the domain's recipe says.
        seed: of everything that is trained or practised; the test starts stay the same.
        quick: a few seconds' worth of everything, to see that the parts fit; learns little.
    """

    which: tyro.conf.Positional[Literal["tabletop", "point-mass"]] = "tabletop"
    out: Path = Path("outputs")
    episodes: int | None = None
    seed: int = 0
    quick: bool = False

    def __post_init__(self) -> None:
        check_settings(self, seed="[0, inf)")
        if self.episodes is not None:
            check_settings(self, episodes="[1, inf)")
