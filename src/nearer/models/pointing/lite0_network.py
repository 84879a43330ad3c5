"""The larger network: ImageNet's features and a stem of its own. It also teaches the U-Net.

    image --enlarged, EfficientNet-Lite0, frozen--> feature map --+
          --convolutional stem, stride 2 and 4--------------------+--> keys at stride 2

Its features of ImageNet tell shapes apart that the U-Net, pretrained on the same drawn scenes,
confuses (docs/log.md, 2026-11-28). It takes three times as long.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import relu

from nearer.models.pointing.convolution import ConvNorm, resized_like
from nearer.models.pointing.efficientnet_lite0 import CHANNELS, Lite0

_FINE, _MIDDLE = 24, 64
"""Channels at stride 2 and 4."""


class Lite0Network(nn.Module):
    """EfficientNet-Lite0, frozen, merged into trainable convolutions; 0.37 GFLOP an image.

    Args:
        width: of a key.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = Lite0()
        self.stem = ConvStem(width)

    def forward(
        self, images: UInt8[Tensor, "frames h w c"]
    ) -> Float[Tensor, "frames width rows columns"]:
        """Return normalised keys at stride 2; nothing flows back into the trunk."""
        with torch.no_grad():
            features = self.trunk(images)
        return self.stem(images, features)


class ConvStem(nn.Module):
    """Convolutions for small shapes at stride 2 and 4, merged with the trunk's map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(3, _FINE, 5, 2)
        self.second = ConvNorm(_FINE, _FINE, 3)
        self.down = ConvNorm(_FINE, _MIDDLE, 3, 2)
        self.learned = ConvNorm(CHANNELS, _MIDDLE, 1)
        self.around = ConvNorm(_MIDDLE, 2 * _MIDDLE, 3)
        self.gather = ConvNorm(2 * _MIDDLE, _MIDDLE, 1)
        self.up = ConvNorm(_MIDDLE, _FINE, 1)
        self.last = ConvNorm(_FINE, _FINE, 3)
        self.key = nn.Conv2d(2 * _FINE, width, 1)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        images: UInt8[Tensor, "frames h w c"],
        features: Float[Tensor, "frames channels y x"],
    ) -> Float[Tensor, "frames width rows columns"]:
        """Return normalised keys at stride 2."""
        hidden = (images.permute(0, 3, 1, 2).float() - 127) / 64  # 0..255 -> about -2..2
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        fine = relu(self.second(relu(self.first(hidden))))
        middle = self.down(fine)
        middle = relu(middle + resized_like(self.learned(features), middle))
        middle = relu(middle + self.gather(relu(self.around(middle))))
        fine = relu(fine + resized_like(self.up(middle), fine))
        keys = self.key(torch.cat([fine, relu(self.last(fine))], dim=1))
        return self.norm(keys.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
