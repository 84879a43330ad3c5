"""What a frozen ImageNet network sees in every camera: its feature maps, averaged to a few cells.

For robots whose scenes the pointing encoder was not pretrained on. No language is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from nearer.core.arrays import Array
from nearer.core.spaces import Camera
from nearer.models.parallel import frames_in_parts, parallel_map
from nearer.models.pointing.efficientnet_lite0 import CHANNELS, Lite0
from nearer.runs.checkpoint import weights_hash

CELLS = (6, 8)
"""Rows and columns. They still hold where ALOHA's peg and socket are, to 2 mm (docs/log.md)."""


@dataclass(frozen=True, slots=True)
class TrunkVisionEncoder:
    """The first blocks of EfficientNet-Lite0 behind every camera of a robot.

    Images are encoded on the device where the trunk lies; encodings are returned on the CPU.
    """

    trunk: Lite0
    cameras: tuple[Camera, ...]

    @property
    def identity(self) -> str:
        """Return a name of the encoder's function, with a hash of its weights and its cameras."""
        cameras = ", ".join(map(str, self.cameras))
        return f"trunk {CELLS[0]}x{CELLS[1]} {cameras}-{weights_hash(self.trunk)}"

    @property
    def encoding_width(self) -> int:
        """Return the width of an encoding: every channel in every cell of every camera."""
        return len(self.cameras) * CHANNELS * CELLS[0] * CELLS[1]

    @property
    def width(self) -> int:
        """Return the number of features of a frame, those of its encoding."""
        return self.encoding_width

    def encode(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> Float32[Array, "frames encoding"]:
        """Return the averaged maps of all cameras side by side; instructions are not read."""
        parts = [self._encode(images[camera.name]) for camera in self.cameras]
        return np.concatenate(parts, axis=1)

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: Float32[Array, "robots encoding"],
    ) -> Float32[Array, "robots features"]:
        """Return the encodings: nothing is carried from frame to frame."""
        return encodings

    def _encode(self, images: UInt8[Array, "frames h w c"]) -> Float32[Array, "frames features"]:
        device = self.trunk.stem.weight.device
        frames = torch.from_numpy(images).to(device)

        def encode(rows: slice) -> Tensor:
            with torch.inference_mode():
                return adaptive_avg_pool2d(self.trunk(frames[rows]), CELLS).flatten(1).cpu()

        return torch.cat(parallel_map(encode, frames_in_parts(len(frames), device))).numpy()
