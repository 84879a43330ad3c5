"""Settings of `nearer pretrain`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nearer.core.settings import check_settings
from nearer.models.settings import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Pretrain the built-in vision encoder on drawn scenes.

    Attributes:
        out: folder for the weights.
        objective: multimodal: point at what a sentence mentions; unimodal: images alone, reproduce
            the features of a network trained on ImageNet.
        network: unet, or lite0, the larger one that teaches it.
        start: folder of weights to go on from; none: random weights.
        emoji: the unpacked npm package emoji-datasource-google; none: no emoji in the scenes.
        easy_vqa: put drawings of the package easy-vqa into the scenes.
        images: scenes drawn.
        updates: optimiser steps.
        batch_size: images a step.
        learning_rate: of AdamW at its highest, after a warm-up; it ends at 0.
        weight_decay: of AdamW.
        naming: weight of the loss that classifies colour and shape at each object.
        matching: weight of the loss that matches captions and images.
        measured: scenes of each kind that the result is evaluated on.
        workers: processes that draw images; 1: this one does.
        device: cpu or cuda, where the network is trained.
        seed: of everything.
    """

    out: Path = Path("outputs/pretrain")
    objective: Literal["multimodal", "unimodal"] = "multimodal"
    network: Network = "unet"
    start: Path | None = None
    emoji: Path | None = None
    easy_vqa: bool = True
    images: int = 30_000
    updates: int = 2_000
    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    naming: float = 1.0
    matching: float = 0.1
    measured: int = 500
    workers: int = 2
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(
            self,
            images="[1, inf)",
            updates="[1, inf)",
            batch_size="[2, inf)",
            learning_rate="(0, inf)",
            weight_decay="[0, inf)",
            naming="[0, inf)",
            matching="[0, inf)",
            measured="[1, inf)",
            workers="[1, inf)",
            seed="[0, inf)",
        )
