"""Settings of a vision-language model in Stage 1."""

from dataclasses import dataclass
from typing import Literal

from nearer.algorithm.action_tokens import LEVELS
from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class VLMConfig:
    """How a pretrained vision-language model is fine-tuned.

    Attributes:
        adapt: full: every weight of the language model; lora: small matrices beside it (peft).
        tower: frozen: pictures are encoded once and kept; trained: Stage 1 trains it too.
        lora_rank: of the small matrices.
        frames: pictures a camera and question: 2 is the frame before and the present one (paper).
        picture_px: side of the square the tower sees; 0: as the model was pretrained.
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
    picture_px: int = 0
    action_levels: int = LEVELS
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
            picture_px="[0, inf)",
            action_levels="[1, inf)",
            num_bins="[2, inf)",
            steps_per_bin="[1, inf)",
        )
