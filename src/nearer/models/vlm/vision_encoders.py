"""Vision encoders of pretrained models: a frozen tower, or the raw pixels while a tower trains."""

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
    from nearer.models.vlm.tower_model import TowerModel

_FRAMES_AT_ONCE = 16  # bounds the memory of a tower


def stacked(
    before: Float32[Array, "robots features"] | None,
    encodings: Float32[Array, "robots encoding"],
    frames: int,
) -> Float32[Array, "robots features"]:
    """Return the encodings of the last `frames` frames side by side, oldest first.

    At the start of an episode the first frame is repeated.
    """
    if frames == 1:
        return encodings
    previous = encodings if before is None else before[:, -encodings.shape[1] :]
    return np.concatenate([previous, encodings], axis=1)


@dataclass(frozen=True, slots=True)
class TowerVisionEncoder:
    """A frozen tower: the tokens of an image, computed once."""

    model: "TowerModel"

    @property
    def identity(self) -> str:
        """Return a name of the encoder's function, with a hash of its weights and preprocessing."""
        tower = torch.nn.ModuleList(self.model.tower)
        preprocessing = "-".join(str(settings) for settings in self.model.preprocessing)
        precision = self.model.settings.precision
        return f"{self.model.spaces.cameras}-{preprocessing}-{precision}-{weights_hash(tower)}"

    @property
    def encoding_width(self) -> int:
        """Return the width of all tokens of a frame."""
        return sum(self.model.widths)

    @property
    def width(self) -> int:
        """Return the width of the frames that a prompt shows."""
        return self.encoding_width * self.model.settings.frames

    @property
    def num_stacked_frames(self) -> int:
        """Return the number of frames that a prompt shows."""
        return self.model.settings.frames

    @property
    def encoding_dtype(self) -> str:
        """Return the dtype of a token."""
        return "float32"

    def encode(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> Float32[Array, "frames encoding"]:
        """Return the tokens of every camera's image, side by side."""
        encodings: list[Array] = []
        for number, camera in enumerate(self.model.spaces.cameras):
            frames = torch.from_numpy(images[camera.name])
            with torch.inference_mode():
                starts = range(0, len(frames), _FRAMES_AT_ONCE)
                parts = [
                    self.model.encode_images(frames[i : i + _FRAMES_AT_ONCE], number)
                    for i in starts
                ]
            encodings.append(torch.cat(parts).flatten(1).float().cpu().numpy())
        return np.concatenate(encodings, axis=1)

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: Float32[Array, "robots encoding"],
    ) -> Float32[Array, "robots features"]:
        """Return the encodings of the frames that a prompt shows."""
        return stacked(before, encodings, self.model.settings.frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelVisionEncoder:
    """The identity: raw pixels as features, for a Stage 1 that trains the tower."""

    cameras: tuple[Camera, ...]
    frames: int

    @property
    def identity(self) -> str:
        """Return a name of the encoder's function."""
        return f"pixels-{self.cameras}"

    @property
    def encoding_width(self) -> int:
        """Return the number of bytes of a frame's images."""
        return sum(camera.height * camera.width * 3 for camera in self.cameras)

    @property
    def width(self) -> int:
        """Return the number of bytes of the frames that a prompt shows."""
        return self.encoding_width * self.frames

    @property
    def num_stacked_frames(self) -> int:
        """Return the number of frames that a prompt shows."""
        return self.frames

    @property
    def encoding_dtype(self) -> str:
        """Return the dtype of a pixel."""
        return "uint8"

    def encode(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> UInt8[Array, "frames encoding"]:
        """Return every camera's pixels, side by side."""
        frames = [images[camera.name] for camera in self.cameras]
        return np.concatenate([pixels.reshape(len(pixels), -1) for pixels in frames], axis=1)

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: UInt8[Array, "robots encoding"],
    ) -> Float32[Array, "robots features"]:
        """Return the pixels of the frames that a prompt shows."""
        return stacked(before, encodings.astype(np.float32), self.frames)
