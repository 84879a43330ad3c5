"""The contract of a vision encoder: the frozen part of a model that reads images."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, Num, UInt8

from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress


@runtime_checkable
class VisionEncoder(Protocol):
    """Turns images and an instruction into the numbers that the trained part of a model reads.

    Encoding a frame is costly and uses that frame alone, so encodings are kept; tracking is cheap
    and uses the frame before as well.
    """

    @property
    def identity(self) -> str:
        """Name what this encoder returns, by a hash of its weights and settings."""
        ...

    @property
    def encoding_width(self) -> int:
        """Count the numbers of a frame's encoding."""
        ...

    @property
    def width(self) -> int:
        """Count the features of a frame."""
        ...

    def encode(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> Num[Array, "frames encoding"]:
        """Return the encoding of each frame, given its instruction."""
        ...

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: Float32[Array, "robots encoding"],
    ) -> Float32[Array, "robots features"]:
        """Return the features of a frame, given those of the frame before; None at the start."""
        ...


def track_episodes(
    track: Callable[[Any, Any], Array],
    encodings: Num[Array, "frames ..."],
    episode_lengths: Int64[Array, "episodes"],
) -> Float32[Array, "frames ..."]:
    """Return what `track` returns for every frame, given its result for the frame before.

    All episodes take a step at a time: as many calls as the longest one has frames.

    Args:
        track: such as `VisionEncoder.track`.
        encodings: one episode's frames after another's.
        episode_lengths: frames an episode.
    """
    starts = np.cumsum(episode_lengths) - episode_lengths
    first = track(None, encodings[starts])
    tracked = np.zeros((len(encodings), *first.shape[1:]), dtype=np.float32)
    tracked[starts] = first
    for step in range(1, int(episode_lengths.max())):
        rows = starts[episode_lengths > step] + step
        tracked[rows] = track(tracked[rows - 1], encodings[rows])
    return tracked


@runtime_checkable
class StackingVisionEncoder(VisionEncoder, Protocol):
    """A vision encoder whose features are the encodings of several frames side by side.

    Such features are wide, so they are gathered when they are needed and never kept.
    """

    @property
    def num_stacked_frames(self) -> int:
        """Count the frames whose encodings are a frame's features: its own last."""
        ...

    @property
    def encoding_dtype(self) -> str:
        """Name the dtype of encodings."""
        ...


@runtime_checkable
class ComparingVisionEncoder(VisionEncoder, Protocol):
    """A vision encoder that encodes a frame for several instructions at little more cost."""

    def encode_for_each(
        self,
        images: Mapping[str, UInt8[Array, "frames h w c"]],
        candidates: Sequence[Sequence[str]],
    ) -> Float32[Array, "frames candidates encoding"]:
        """Return the encodings of each frame, one for each of its candidate instructions."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """Episodes that a vision encoder may be trained on: images and instructions, nothing else.

    Attributes:
        images: of every camera, of these frames at least; may be larger than memory.
        rows: where in `images` the frames are, one episode's after the other's.
        episode_lengths: frames an episode.
        instructions: of each episode: its own, and equally many of other episodes.
    """

    images: Mapping[str, UInt8[Array, "all_frames h w 3"]]
    rows: Int64[Array, "frames"]
    episode_lengths: Int64[Array, "episodes"]
    instructions: Sequence[Sequence[str]]

    def instructions_of_frames(self) -> list[Sequence[str]]:
        """Return the instructions of each frame: those of its episode."""
        lengths = self.episode_lengths
        return [each for each, n in zip(self.instructions, lengths, strict=True) for _ in range(n)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What the model is to predict on every frame of clips: both objectives of Stage 1.

    Attributes:
        state: proprioception and environment state, each column with mean 0 and deviation 1.
        actions: tokens of every axis; -1 on the last frame of an episode, where nothing is decided.
        steps_to_go: bins.
        num_action_tokens: classes of an axis.
        num_bins: classes of steps-to-go.
    """

    state: Float32[Array, "frames state"]
    actions: Int64[Array, "frames axes"]
    steps_to_go: Int64[Array, "frames"]
    num_action_tokens: int
    num_bins: int

    @property
    def identity(self) -> str:
        """Return a hash of everything."""
        digest = hashlib.blake2b(f"{self.num_action_tokens} {self.num_bins}".encode())
        for values in (self.state, self.actions, self.steps_to_go):
            digest.update(f"{values.shape}".encode() + values.tobytes())
        return digest.hexdigest()[:32]


@runtime_checkable
class TrainableVisionEncoder(ComparingVisionEncoder, Protocol):
    """A vision encoder that Stage 1 first trains on the demonstrations' frames; frozen after."""

    @property
    def other_instructions(self) -> int:
        """Count the instructions of other episodes with which it learns from an episode."""
        ...

    @property
    def learning_identity(self) -> str:
        """Name what learning makes of the same clips: by weights, teacher and settings."""
        ...

    def teacher(self) -> ComparingVisionEncoder:
        """Return the encoder whose encodings it learns from first; it may be this one."""
        ...

    def weights(self) -> Float32[Array, "weights"]:
        """Return what is trained, as one vector."""
        ...

    def take(self, weights: Float32[Array, "weights"]) -> None:
        """Encode with these weights from now on."""
        ...

    def learn(
        self,
        clips: Clips,
        encodings: Float32[Array, "frames instructions encoding"],
        updates: int,
        rng: np.random.Generator,
        on_progress: ProgressCallback = ignore_progress,
    ) -> None:
        """Train, in place, on clips and on what the teacher makes of them."""
        ...

    def learn_through_objectives(
        self,
        clips: Clips,
        decisions: Decisions,
        updates: int,
        rng: np.random.Generator,
        on_progress: ProgressCallback = ignore_progress,
    ) -> None:
        """Train by behavioural cloning and steps-to-go prediction, in place."""
        ...


@runtime_checkable
class LocatesObjects(Protocol):
    """A model whose features say where the named objects and the effector are in the image.

    Three objects: the first and the second that the instruction names, and the effector.
    """

    @property
    def maps_to_plane(self) -> bool:
        """Tell whether the demonstrations determined the map from the image to the plane."""
        ...

    def located(self, features: Float32[Array, "frames features"]) -> Float32[Array, "frames 3 3"]:
        """Return u, v and probability of each object's likeliest position.

        u and v are fractions of the image's width and height; (0, 0) is its upper left.
        """
        ...

    def in_plane(self, points: Float32[Array, "*batch 2"]) -> Float32[Array, "*batch 2"]:
        """Return x, y of image points in the plane of the effector, in the robot's units."""
        ...
