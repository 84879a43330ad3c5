"""Settings of every model that nearer can build; no torch, so that flags are read at once."""

from dataclasses import dataclass
from typing import Literal

from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MLPConfig:
    """Sizes of the model for states (no pictures, no language).

    Attributes:
        hidden: width of each of the three hidden layers.
        num_bins: classes of the steps-to-go answer.
        steps_per_bin: control steps a class.
        min_scale: smallest standard deviation of a normalised action.
        max_deviation: states are clipped to +- this many standard deviations.
    """

    # The notebook has a smallest scale of 0.01. At that, the gradient of a log-probability, which
    # grows with 1 / scale^2, made practice collapse on two seeds of five (docs/log.md). And a
    # runaway robot must not send the network, or its gradient, anywhere.

    hidden: int = 256
    num_bins: int = 141
    steps_per_bin: int = 1
    min_scale: float = 0.15
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallVLAConfig:
    """Sizes of the trained part of the built-in model.

    Attributes:
        hidden: width of each of the hidden layers.
        word_width: numbers an instruction's words become, apart from what they point at.
        num_bins: classes of the steps-to-go answer.
        steps_per_bin: control steps a class.
        max_deviation: facts are clipped to +- this many standard deviations.
        dropout: share of the hidden numbers that Stage 1 leaves out. Cloning gains nothing by it,
            practice does: its reward comes from a network that is less sure of what it has not seen
            (docs/log.md).
        answers_instruction: it has a head for the third question, which instruction an episode had.
        action_levels: magnitudes of an action token; 127 for joints, as the paper's Aloha.
    """

    hidden: int = 256
    word_width: int = 4
    num_bins: int = 80
    steps_per_bin: int = 1
    max_deviation: float = 4.0
    dropout: float = 0.2
    answers_instruction: bool = False
    action_levels: int = 10

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
    """How a pretrained vision-language model is fine-tuned.

    Attributes:
        adapt: full: every weight of the language model; lora: small matrices beside it (peft).
        tower: frozen: pictures are encoded once and kept; trained: Stage 1 trains it too.
        lora_rank: of the small matrices.
        frames: pictures a camera and question: 2 is the frame before and the present one (paper).
        image_px: side of the square the tower sees; 0: as the model was pretrained.
        action_levels: magnitudes of an action token; 127 for joints, as the paper's Aloha.
        num_bins: classes of the steps-to-go answer.
        steps_per_bin: control steps a class.
        precision: of arithmetic; with lora, what does not learn is kept in it too, and what
            learns in float32.
        checkpointing: layers are computed twice in training, to need less memory.
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


VARIANTS = {
    "small-vla": "multimodal",
    "small-vla-unimodal": "unimodal",
    "small-vla-scratch": "scratch",
}
"""Names of the built-in model, by how its sight was pretrained."""
