"""The smaller network, a U-Net: image -> a key for every cell of two by two pixels.

    image --conv--> stride 2 --conv--> stride 4 --conv--> stride 8, residual convolutions
                        |                  |                  |
    keys <--------------+ <----------------+ <----------------+   (enlarged, added)

Source: Ronneberger et al. 2015, arXiv:1505.04597, for the shape; the two ways are added rather than
put side by side. Nothing in it knows where in the image it is: keys say what is there, not where.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import relu

from nearer.models.pointing.convolution import ConvNorm, resized_like

_STRIDE_2, _STRIDE_4, _STRIDE_8 = 16, 32, 96
"""Channels at each stride."""
_BLOCKS = 3
"""Residual convolutions at stride 8."""


class UNet(nn.Module):
    """Convolutions down to stride 8 and back to stride 2, 0.18 GFLOP an image of 96 by 128.

    Args:
        width: of a key.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down2 = ConvNorm(3, _STRIDE_2, 5, 2)
        self.down4 = ConvNorm(_STRIDE_2, _STRIDE_4, 3, 2)
        self.block4 = ConvNorm(_STRIDE_4, _STRIDE_4, 3)
        self.down8 = ConvNorm(_STRIDE_4, _STRIDE_8, 3, 2)
        self.blocks8 = nn.ModuleList(ConvNorm(_STRIDE_8, _STRIDE_8, 3) for _ in range(_BLOCKS))
        self.up4 = ConvNorm(_STRIDE_8, _STRIDE_4, 1)
        self.merged4 = ConvNorm(_STRIDE_4, _STRIDE_4, 3)
        self.up2 = ConvNorm(_STRIDE_4, _STRIDE_2, 1)
        self.merged2 = ConvNorm(_STRIDE_2, _STRIDE_2, 3)
        self.key = nn.Conv2d(2 * _STRIDE_2, width, 1)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, images: UInt8[Tensor, "frames h w c"]
    ) -> Float[Tensor, "frames width rows columns"]:
        """Return normalised keys at stride 2."""
        pixels = (images.permute(0, 3, 1, 2).float() - 127) / 64  # 0..255 -> about -2..2
        fine = relu(self.down2(pixels.contiguous(memory_format=torch.channels_last)))
        middle = relu(self.down4(fine))
        middle = relu(middle + self.block4(middle))
        coarse = relu(self.down8(middle))
        for block in self.blocks8:
            coarse = relu(coarse + block(coarse))
        middle = relu(middle + resized_like(self.up4(coarse), middle))
        middle = relu(middle + self.merged4(middle))
        fine = relu(fine + resized_like(self.up2(middle), fine))
        keys = self.key(torch.cat([fine, relu(self.merged2(fine))], dim=1))
        return self.norm(keys.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
