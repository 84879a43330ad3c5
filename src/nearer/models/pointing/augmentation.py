"""Augmentation of the frames of self-training: turned, scaled, shifted and of other colours.

A pseudo-label moves with its object. Frames are not mirrored: an instruction may say left and
right. Sizes were chosen once and not tuned.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from nearer.core.arrays import Array

_TURN_RAD = 0.2
_LOG_SCALE = 0.12
_SHIFT_HEIGHTS = 0.08
_LOG_GAIN = 0.1
"""Of each colour channel."""
_OFFSET = 8.0
"""Of 255."""
_MARGIN = 0.01
"""A label so near to the border is left out; a fraction of width and height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How each frame of a minibatch is changed.

    Attributes:
        turns: radians.
        scales: pixels of the frame a pixel of the result.
        shifts: right and down, in image heights.
        gains: of the colour channels.
        offsets: added to all channels.
    """

    turns: Float32[Array, "frames"]
    scales: Float32[Array, "frames"]
    shifts: Float32[Array, "frames 2"]
    gains: Float32[Array, "frames 3"]
    offsets: Float32[Array, "frames"]

    @classmethod
    def draw(cls, frames: int, rng: np.random.Generator) -> "Augmentation":
        """Draw uniformly within the module's sizes."""

        def uniform(size: float, *shape: int) -> Float32[Array, "frames *each"]:
            return rng.uniform(-size, size, (frames, *shape)).astype(np.float32)

        return cls(
            turns=uniform(_TURN_RAD),
            scales=np.exp(uniform(_LOG_SCALE)),
            shifts=uniform(_SHIFT_HEIGHTS, 2),
            gains=np.exp(uniform(_LOG_GAIN, 3)),
            offsets=uniform(_OFFSET),
        )

    def part(self, rows: slice) -> "Augmentation":
        """Return that of some of the frames."""
        return Augmentation(
            turns=self.turns[rows],
            scales=self.scales[rows],
            shifts=self.shifts[rows],
            gains=self.gains[rows],
            offsets=self.offsets[rows],
        )

    def images(self, images: UInt8[Tensor, "frames h w 3"]) -> UInt8[Tensor, "frames h w 3"]:
        """Return the changed frames; what lies outside a frame is its border's colour."""
        height, width = images.shape[1:3]
        aspect = width / height
        maps = torch.from_numpy(self._maps())
        # affine_grid counts from -1 to 1 over the width and over the height.
        linear = maps * torch.tensor([[1.0, 1 / aspect], [aspect, 1.0]])
        shift = torch.from_numpy(self.shifts) * torch.tensor([2 / aspect, 2.0])
        theta = torch.cat([linear, shift[..., None]], dim=2)
        grid = affine_grid(theta, [len(images), 3, height, width], align_corners=False)
        pixels = images.permute(0, 3, 1, 2).float()
        moved = grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        gains, offsets = torch.from_numpy(self.gains), torch.from_numpy(self.offsets)
        coloured = moved * gains[..., None, None] + offsets[:, None, None, None]
        return coloured.clamp(0, 255).round().byte().permute(0, 2, 3, 1)

    def targets(
        self, targets: Float32[Array, "frames *slots 3"], aspect: float
    ) -> Float32[Array, "frames *slots 3"]:
        """Return where the labels are in the changed frames.

        Args:
            targets: u, v and weight; the weight of what leaves the frame becomes 0.
            aspect: width of the images over their height.
        """
        scale = np.array([aspect, 1.0], dtype=np.float32)
        flat = targets.reshape(len(targets), -1, 3)
        offsets = (flat[..., :2] - 0.5) * scale - self.shifts[:, None]
        # maps @ result = offsets, for row vectors.
        moved = offsets @ np.linalg.inv(self._maps()).transpose(0, 2, 1)
        uv = moved / scale + np.float32(0.5)
        inside = ((uv > _MARGIN) & (uv < 1 - _MARGIN)).all(axis=2, keepdims=True)
        changed = np.concatenate([uv.clip(0, 1), flat[..., 2:] * inside], axis=2)
        return changed.astype(np.float32).reshape(targets.shape)

    def _maps(self) -> Float[Array, "frames 2 2"]:
        """Return the maps from the result's offsets from the centre to the frame's, in heights."""
        cos, sin = self.scales * np.cos(self.turns), self.scales * np.sin(self.turns)
        return np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
