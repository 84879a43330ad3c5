"""Settings of every model that nearer can build; no torch, so that flags are read at once."""

import math
from dataclasses import dataclass, field
from typing import Literal

from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MLPConfig:
    """Sizes of the model for states, or for states and images; it reads no language.

    Attributes:
        images: it also reads every camera, through a frozen network that was trained on ImageNet,
            and of what that returns where the robot will be at its next keyframes: when a gripper
            opens or closes, and at the end.
        grippers: which numbers of observation.state are grippers' openings; 0 is the first.
        hidden: width of each of the three hidden layers.
        num_bins: classes of the steps-to-go head.
        steps_per_bin: control steps a class.
        min_scale: smallest standard deviation of a normalised action.
        max_scale: largest; none: no limit. As small as min_scale: the same everywhere, for precise
            tasks whose demonstrations differ in speed and way.
        max_deviation: states are clipped to +- this many standard deviations.
    """

    # min_scale: the authors' notebook has 0.01. At that value the gradient of a log-probability,
    # which grows with 1 / scale^2, made Stage 2 collapse on two seeds of five (docs/log.md).
    # max_deviation: a state far outside the demonstrations must not blow up outputs or gradients.

    images: bool = False
    grippers: tuple[int, ...] = ()
    hidden: int = 256
    num_bins: int = 141
    steps_per_bin: int = 1
    min_scale: float = 0.15
    max_scale: float | None = None
    max_deviation: float = 5.0

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="mlp.",
            hidden="[1, inf)",
            num_bins="[2, inf)",
            steps_per_bin="[1, inf)",
            min_scale="(0, inf)",
            max_deviation="(0, inf)",
        )
        if self.grippers and not self.images:
            raise ConfigError(
                "--mlp.grippers must come with --mlp.images, since images predict where they open "
                f"and close, got {list(self.grippers)} without; leave them out"
            )
        if self.max_scale is not None and not self.min_scale <= self.max_scale < math.inf:
            raise ConfigError(
                "--mlp.max-scale must be finite and at least --mlp.min-scale, got "
                f"{self.max_scale} and {self.min_scale}; change one of them"
            )


Network = Literal["lite0", "unet"]
"""Of the built-in vision encoder: the larger one, or one at a third of its cost that it teaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTrainingConfig:
    """How the built-in vision encoder learns from pseudo-labels before Stage 1.

    Attributes:
        batch_size: frames an update.
        part_size: frames whose gradient is computed at once; the batch's is the mean.
        learning_rate: AdamW's peak; falls to 0 on a half cosine.
        warmup_updates: updates over which the rate rises from 0.
        weight_decay: AdamW's.
        max_gradient_norm: gradients are scaled down to this norm.
        min_confidence: mean peak probability below which an object gets no labels in an episode.
        teacher: makes the first pseudo-labels of a U-Net; lite0's is itself.
        rounds: pseudo-labels are made so many times; later ones by the encoder so far.
        occluded_weight: how often frames are drawn where the effector covers an object.
        other_instructions: instructions of other episodes, for which a frame is labelled, too.
        augmentation: frames are turned, scaled, shifted and of other colours in every update.
        rehearsed_parts: parts of drawn pretraining scenes an update, beside the batch: words that
            no demonstration uses are not forgotten.
    """

    # part_size: more than 8 leave the processor's cache; 32 took 1.7 times as long.
    # other_instructions: what they name is often there, too; what is never clear is left out.

    batch_size: int = 32
    part_size: int = 8
    learning_rate: float = 1e-3
    warmup_updates: int = 20
    weight_decay: float = 0.02
    max_gradient_norm: float = 1.0
    min_confidence: float = 0.5
    teacher: Literal["lite0", "itself"] = "lite0"
    rounds: int = 1
    occluded_weight: float = 4.0
    other_instructions: int = 3
    augmentation: bool = True
    rehearsed_parts: int = 0

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="vla.self-training.",
            batch_size="[1, inf)",
            part_size="[1, inf)",
            learning_rate="(0, inf)",
            warmup_updates="[1, inf)",
            weight_decay="[0, inf)",
            max_gradient_norm="(0, inf)",
            min_confidence="[0, 1]",
            rounds="[1, inf)",
            occluded_weight="(0, inf)",
            other_instructions="[0, inf)",
            rehearsed_parts="[0, inf)",
        )
        if self.batch_size % self.part_size:
            raise ConfigError(
                f"--vla.self-training.batch-size must be a multiple of the part size "
                f"{self.part_size}, got {self.batch_size}; change one of them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallVLAConfig:
    """Sizes of the trained part of the built-in model, and how its vision encoder is adapted.

    Attributes:
        hidden: width of each of the hidden layers.
        word_width: width of the instruction embedding.
        num_bins: classes of the steps-to-go head.
        steps_per_bin: control steps a class.
        max_deviation: inputs are clipped to +- this many standard deviations.
        dropout: fraction of hidden units dropped in Stage 1.
        instruction_objective: has a head for the instruction-matching objective.
        action_levels: magnitudes of an action token; 127 for joints, as the paper's Aloha.
        goal_region: networks also read where the first object must end up: a disc that is learned
            from words and last frames; for instructions that name places.
        mirror: coordinate whose reflection leaves all tasks as they are.
        mirror_swaps: words of instructions that change places in the mirror, as left=right.
        unknown_words: in instructions: that no demonstration used; skip: only the vision encoder
            reads them, as the name of a new object.
        synonyms: words of new instructions with the demonstrations' word for it, as table=board;
            the vision encoder reads what is written.
        network: of the vision encoder; unet, which lite0 teaches, or lite0; its training:
            --vla.network NAME --help.
        self_training: of the vision encoder, on the demonstrations' frames.
    """

    # dropout: behavioural cloning gains nothing by it, Stage 2 does: the reward model becomes less
    # certain off the demonstrations (docs/log.md).

    hidden: int = 256
    word_width: int = 4
    num_bins: int = 80
    steps_per_bin: int = 1
    max_deviation: float = 4.0
    dropout: float = 0.2
    instruction_objective: bool = False
    action_levels: int = 10
    goal_region: bool = False
    mirror: Literal["none", "x", "y"] = "none"
    mirror_swaps: tuple[str, ...] = ()
    unknown_words: Literal["refuse", "skip"] = "refuse"
    synonyms: tuple[str, ...] = ()
    network: Network = "unet"
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="vla.",
            hidden="[1, inf)",
            word_width="[1, inf)",
            num_bins="[2, inf)",
            steps_per_bin="[1, inf)",
            max_deviation="(0, inf)",
            dropout="[0, 1)",
            action_levels="[1, inf)",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VLMConfig:
    """How a pretrained vision-language model or dual encoder is fine-tuned.

    Attributes:
        adapt: full: every weight of the language model; lora: low-rank adapters beside it (peft).
        tower: of vision; frozen: images are encoded once and cached; trained: Stage 1 trains it.
        lora_rank: rank of the adapters.
        frames: images per camera in a prompt: 2 is the previous and the present frame (paper).
        image_px: side of the square that the tower takes; 0: as the model was pretrained.
        action_levels: magnitudes of an action token; 127 for joints, as the paper's Aloha.
        num_bins: classes of the steps-to-go head.
        steps_per_bin: control steps a class.
        precision: of arithmetic; with lora, frozen weights are stored in it too, trained weights
            in float32.
        checkpointing: activations are recomputed in the backward pass, which needs less memory.
        device: auto: a GPU if there is one.
    """

    adapt: Literal["full", "lora"] = "full"
    tower: Literal["frozen", "trained"] = "frozen"
    lora_rank: int = 16
    frames: Literal[1, 2] = 2
    image_px: int = 0
    action_levels: int = 10
    num_bins: int = 50
    steps_per_bin: int = 2
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="vlm.",
            lora_rank="[1, inf)",
            image_px="[0, inf)",
            action_levels="[1, inf)",
            num_bins="[2, inf)",
            steps_per_bin="[1, inf)",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPoolingConfig:
    """Sizes of what is trained on top of a dual encoder's towers.

    Attributes:
        width: of a patch and of a query.
        queries: that attend to every image.
        heads: of a query.
        hidden: width of each of the hidden layers of the heads.
        dropout: fraction of hidden units dropped in Stage 1.
    """

    width: int = 128
    queries: int = 8
    heads: int = 4
    hidden: int = 256
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_settings(
            self,
            width="[1, inf)",
            queries="[1, inf)",
            heads="[1, inf)",
            hidden="[1, inf)",
            dropout="[0, 1)",
        )


VARIANTS = {
    "small-vla": "multimodal",
    "small-vla-unimodal": "unimodal",
    "small-vla-scratch": "scratch",
}
"""Names of the built-in model, by how its vision encoder was pretrained."""
