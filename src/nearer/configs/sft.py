"""Settings of `nearer sft`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated

from nearer.algorithm.sft_settings import LEARNING_RATE, SFTTraining
from nearer.configs.flags import Flat, NeededToStart, Renames, Track, chosen, help_page
from nearer.configs.folders import OUTPUTS
from nearer.core.action_chunks import Chunking
from nearer.core.errors import ConfigError
from nearer.core.renames import parse_renames
from nearer.core.settings import check_settings
from nearer.fleets.env_settings import EnvSettings
from nearer.models.settings import VARIANTS, MLPConfig, SmallVLAConfig, VLMConfig

MODEL_SETTINGS = ("mlp", "vla", "vlm")
"""Fields of `SFTConfig`, each for one kind of model."""

PRETRAINED_RATE = 1e-4
"""AdamW's peak for a vision-language model: it must not forget what it knows."""


def settings_of(model: str) -> str:
    """Return which of `MODEL_SETTINGS` a model has: vlm, unless it is built in."""
    return "mlp" if model == "mlp" else "vla" if model in VARIANTS else "vlm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How the detector's threshold is chosen.

    Attributes:
        env: Gymnasium id, if its ground truth is to label rollouts too.
        rollouts: episodes of the policy that are labelled.
        rollout_steps: control steps of each.
        min_precision: fraction of detections to be right, on rollouts if any.
    """

    env: str | None = None
    rollouts: int = 200
    rollout_steps: int = 140
    min_precision: float = 0.98
    env_settings: Annotated[EnvSettings, Flat] = field(default_factory=EnvSettings)

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="calibration.",
            rollouts="[1, inf)",
            rollout_steps="[1, inf)",
            min_precision="(0, 1]",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTConfig:
    """Stage 1: fine-tune a model on demonstrations (behavioural cloning and steps-to-go).

    Attributes:
        data: folder of a LeRobotDataset v3.0, or its hub id (user/name).
        revision: of the hub's data set.
        rename: features to read under other names, as image=observation.images.front.
        completion_cutoff: control steps that are kept after movement ends; none: all.
        fraction: of the data set's episodes that are used, drawn by --seed.
        model: small-vla, mlp (states, or states and images), or a vision-language model's hub id
            or folder; its own settings: --model NAME --help.
        vision_encoder_updates: gradient updates of small-vla's vision encoder, first, on the
            frames.
        vision_encoder_objective_updates: gradient updates through both objectives, before these.
        vision_encoder_episodes: demonstrations that these updates see, at most.
        cache: folder of decoded frames and features; none: ~/.cache/nearer.
        out: the run's folder; outputs: outputs/sft/DATE/TIME_MODEL.
        track: shows metrics in tensorboard, wandb, trackio.
        resume: continue the run in --out, with the settings it has.
    """

    out: Path = OUTPUTS
    data: Annotated[str, NeededToStart] = ""
    revision: str | None = None
    rename: Annotated[tuple[str, ...], Renames] = ()
    completion_cutoff: int | None = None
    fraction: float = 1.0
    model: str = "small-vla"
    vision_encoder_updates: int = 300
    vision_encoder_objective_updates: int = 0
    vision_encoder_episodes: int = 200
    cache: Path | None = None
    track: Track = ("tensorboard",)
    resume: bool = False
    mlp: MLPConfig = field(default_factory=MLPConfig)
    vla: SmallVLAConfig = field(default_factory=SmallVLAConfig)
    vlm: VLMConfig = field(default_factory=VLMConfig)
    calibration: Calibration = field(default_factory=Calibration)
    chunking: Annotated[Chunking, Flat] = field(default_factory=Chunking)
    training: Annotated[SFTTraining, Flat] = field(default_factory=SFTTraining)

    def __post_init__(self) -> None:
        check_settings(
            self,
            fraction="(0, 1]",
            vision_encoder_updates="[0, inf)",
            vision_encoder_objective_updates="[0, inf)",
            vision_encoder_episodes="[1, inf)",
        )
        parse_renames(self.rename)
        if self.completion_cutoff is not None:
            check_settings(self, completion_cutoff="[0, inf)")
        if self.training.learning_rate is None:
            rate = PRETRAINED_RATE if settings_of(self.model) == "vlm" else LEARNING_RATE
            object.__setattr__(self, "training", replace(self.training, learning_rate=rate))
        if self.calibration.env is not None:
            self.chunking.decisions_within(self.calibration.rollout_steps)
        through = self.vision_encoder_objective_updates
        if through and settings_of(self.model) != "vla":
            raise ConfigError(
                "--vision-encoder-objective-updates must be 0 unless --model is small-vla, whose "
                f"vision encoder is apart from the rest, got {through}; leave it out"
            )
        others = self.training.other_instructions
        if settings_of(self.model) != "vla" and others:
            raise ConfigError(
                "--other-instructions must be 0 unless --model is small-vla, which alone has "
                f"the instruction objective, got {others}; leave it out"
            )

    @property
    def sizes(self) -> MLPConfig | SmallVLAConfig | VLMConfig:
        """Return the sizes of the chosen model; it has a head for what training asks of it."""
        if settings_of(self.model) == "vla":
            return replace(self.vla, instruction_objective=self.training.other_instructions > 0)
        return self.mlp if self.model == "mlp" else self.vlm

    @property
    def folder_name(self) -> str:
        """Return what a new folder is named after: the model."""
        return Path(self.model).name


def help_config(arguments: Sequence[str]) -> type:
    """Return what --help shows: the common settings, or those of --model or --vla.network."""
    model, network = chosen("--model", arguments), chosen("--vla.network", arguments)
    return _help_config(settings_of(model) if model else None, bool(network))


@cache  # tyro remembers classes by their address, so they must stay
def _help_config(kind: str | None, of_network: bool) -> type:
    if of_network:
        others = {setting.name for setting in fields(SFTConfig)} - {"vla"}
        return help_page(SFTConfig, others)
    hidden = {name for name in MODEL_SETTINGS if name != kind}
    if kind is not None:
        hidden |= {"training", "calibration", "rename", "completion_cutoff", "vla.self_training"}
    return help_page(SFTConfig, hidden)
