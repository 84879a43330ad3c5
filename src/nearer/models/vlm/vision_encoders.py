"""How the pictures of a pretrained model become features of a frame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from nearer.core.arrays import Array
from nearer.core.spaces import Camera
from nearer.runs.checkpoint import weights_hash

if TYPE_CHECKING:
    from nearer.models.vlm.tower_model import Towered

_AT_ONCE = 16  # frames; bounds the memory of a tower


def track(
    before: Float32[Array, "robots features"] | None,
    encodings: Float32[Array, "robots looks"],
    frames: int,
) -> Float32[Array, "robots features"]:
    """Return the looks at the last `frames` frames, oldest first; the first frame stands twice."""
    if frames == 1:
        return encodings
    previous = encodings if before is None else before[:, -encodings.shape[1] :]
    return np.concatenate([previous, encodings], axis=1)


@dataclass(frozen=True, slots=True)
class TowerVisionEncoder:
    """A frozen tower: what it makes of a picture, computed once."""

    model: "Towered"

    @property
    def identity(self) -> str:
        """Name what this sight sees, by a hash of its weights and how pictures are prepared."""
        tower = torch.nn.ModuleList(self.model.tower)
        prepared = "-".join(str(one) for one in self.model.preparing)
        precision = self.model.settings.precision
        return f"{self.model.spaces.cameras}-{prepared}-{precision}-{weights_hash(tower)}"

    @property
    def encoding_width(self) -> int:
        """Count the numbers of all tokens of a frame."""
        return sum(self.model.widths)

    @property
    def width(self) -> int:
        """Count the numbers of the frames that a question shows."""
        return self.encoding_width * self.model.settings.frames

    @property
    def num_stacked_frames(self) -> int:
        """Count the frames that a question shows."""
        return self.model.settings.frames

    @property
    def encoding_dtype(self) -> str:
        """Name the kind of a token's numbers."""
        return "float32"

    def encode(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> Float32[Array, "frames looks"]:
        """Return the tokens of every camera's picture, side by side."""
        encodings: list[Array] = []
        for number, camera in enumerate(self.model.spaces.cameras):
            pictures = torch.from_numpy(images[camera.name])
            with torch.inference_mode():
                starts = range(0, len(pictures), _AT_ONCE)
                parts = [self.model.see(pictures[i : i + _AT_ONCE], number) for i in starts]
            encodings.append(torch.cat(parts).flatten(1).float().cpu().numpy())
        return np.concatenate(encodings, axis=1)

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: Float32[Array, "robots looks"],
    ) -> Float32[Array, "robots features"]:
        """Return the looks at the frames that a question shows."""
        return track(before, encodings, self.model.settings.frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelVisionEncoder:
    """No tower at all: the pictures themselves, for Stage 1 that trains the tower."""

    cameras: tuple[Camera, ...]
    frames: int

    @property
    def identity(self) -> str:
        """Name what this sight sees."""
        return f"pixels-{self.cameras}"

    @property
    def encoding_width(self) -> int:
        """Count the bytes of a frame's pictures."""
        return sum(one.height * one.width * 3 for one in self.cameras)

    @property
    def width(self) -> int:
        """Count the bytes of the frames that a question shows."""
        return self.encoding_width * self.frames

    @property
    def num_stacked_frames(self) -> int:
        """Count the frames that a question shows."""
        return self.frames

    @property
    def encoding_dtype(self) -> str:
        """Name the kind of a pixel's numbers."""
        return "uint8"

    def encode(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> UInt8[Array, "frames looks"]:
        """Return every camera's pixels, side by side."""
        pictures = [images[one.name] for one in self.cameras]
        return np.concatenate([one.reshape(len(one), -1) for one in pictures], axis=1)

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: UInt8[Array, "robots looks"],
    ) -> Float32[Array, "robots features"]:
        """Return the pixels of the frames that a question shows."""
        return track(before, encodings.astype(np.float32), self.frames)
