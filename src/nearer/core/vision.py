"""The contract of a vision encoder: the frozen part of a model that reads images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, Num, UInt8

from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress


@runtime_checkable
class VisionEncoder(Protocol):
    """Turns images and an instruction into the numbers that the trained part of a model reads.

    A look is costly and knows one frame alone, so it is kept; `follow` is cheap and knows the
    frame before.
    """

    @property
    def identity(self) -> str:
        """Name what this sight sees, by a hash of its weights and settings."""
        ...

    @property
    def encoding_width(self) -> int:
        """Count the numbers that a look at a frame gives."""
        ...

    @property
    def width(self) -> int:
        """Count the features of a frame."""
        ...

    def encode(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> Num[Array, "frames looks"]:
        """Look at frames, each with its instruction in mind."""
        ...

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: Float32[Array, "robots looks"],
    ) -> Float32[Array, "robots features"]:
        """Return the features of a frame, given those of the frame before; None at the start."""
        ...


@runtime_checkable
class StackingVisionEncoder(VisionEncoder, Protocol):
    """A sight whose features are looks side by side: wide ones, that are better not kept twice."""

    @property
    def num_stacked_frames(self) -> int:
        """Count the looks of a frame's features: its own last, before it those of frames before."""
        ...

    @property
    def encoding_dtype(self) -> str:
        """Name the kind of a look's numbers."""
        ...


@runtime_checkable
class ComparingVisionEncoder(VisionEncoder, Protocol):
    """A sight that can look at a frame with several instructions in mind, at little more cost."""

    def encode_for_each(
        self,
        images: Mapping[str, UInt8[Array, "frames h w c"]],
        candidates: Sequence[Sequence[str]],
    ) -> Float32[Array, "frames candidates looks"]:
        """Look at frames, each with its candidates in mind one by one: as many looks as `look`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """Episodes that a sight may learn from: images and instructions, nothing else.

    Attributes:
        images: of every camera, of these frames at least; may be larger than memory.
        rows: where in `images` the frames are, one episode's after the other's.
        encodings: what the sight's look at each of these frames gives.
        episode_lengths: frames an episode.
        instructions: one an episode.
    """

    images: Mapping[str, UInt8[Array, "all_frames h w 3"]]
    rows: Int64[Array, "frames"]
    encodings: Float32[Array, "frames looks"]
    episode_lengths: Int64[Array, "episodes"]
    instructions: Sequence[str]


@runtime_checkable
class TrainableVisionEncoder(VisionEncoder, Protocol):
    """A sight that learns from the demonstrations' own frames in Stage 1; frozen ever after."""

    def weights(self) -> Float32[Array, "weights"]:
        """Return what learns, as one vector."""
        ...

    def take(self, weights: Float32[Array, "weights"]) -> None:
        """See with these weights from now on."""
        ...

    def learn(
        self,
        films: Clips,
        updates: int,
        rng: np.random.Generator,
        on_progress: ProgressCallback = ignore_progress,
    ) -> None:
        """Learn from films, in place."""
        ...
