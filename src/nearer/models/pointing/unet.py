"""A small U-Net: image -> a key for every cell of two by two pixels.

    image --conv--> stride 2 --conv--> stride 4 --conv--> stride 8, residual blocks
                        |                  |                  |
    keys <--------------+ <----------------+ <----------------+   (enlarged, added)

Source: Ronneberger et al. 2015, arXiv:1505.04597, for the shape; the two ways are added rather than
put side by side. Nothing in it knows where in the image it is: keys say what is there, not where.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """Sizes of the U-Net.

    Attributes:
        width: of a key.
        stride2: channels at stride 2.
        stride4: channels at stride 4.
        stride8: channels at stride 8.
        blocks: residual convolutions at stride 8.
    """

    width: int = 64
    stride2: int = 16
    stride4: int = 32
    stride8: int = 96
    blocks: int = 3


class UNet(nn.Module):
    """Convolutions down to stride 8 and back to stride 2."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        stride2, stride4, stride8 = config.stride2, config.stride4, config.stride8
        self.down2 = _Conv(3, stride2, 5, 2)
        self.down4 = _Conv(stride2, stride4, 3, 2)
        self.block4 = _Conv(stride4, stride4, 3)
        self.down8 = _Conv(stride4, stride8, 3, 2)
        self.blocks8 = nn.ModuleList(_Conv(stride8, stride8, 3) for _ in range(config.blocks))
        self.up4 = _Conv(stride8, stride4, 1)
        self.merged4 = _Conv(stride4, stride4, 3)
        self.up2 = _Conv(stride4, stride2, 1)
        self.merged2 = _Conv(stride2, stride2, 3)
        self.key = nn.Conv2d(2 * stride2, config.width, 1)
        self.norm = nn.LayerNorm(config.width)

    def fold_batch_norm(self) -> None:
        """Fold batch normalisation into the convolutions: the same outputs, faster."""
        for module in self.modules():
            if isinstance(module, _Conv):
                module.fold()

    def forward(
        self, images: UInt8[Tensor, "frames h w c"]
    ) -> Float[Tensor, "frames width rows columns"]:
        """Return normalised keys at stride 2."""
        fine, middle, coarse = self.features(images)
        middle = relu(middle + _resized_like(self.up4(coarse), middle))
        middle = relu(middle + self.merged4(middle))
        fine = relu(fine + _resized_like(self.up2(middle), fine))
        keys = self.key(torch.cat([fine, relu(self.merged2(fine))], dim=1))
        return self.norm(keys.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def features(self, images: UInt8[Tensor, "frames h w c"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the feature maps of the way down, at strides 2, 4 and 8."""
        pixels = (images.permute(0, 3, 1, 2).float() - 127) / 64  # 0..255 -> about -2..2
        fine = relu(self.down2(pixels.contiguous(memory_format=torch.channels_last)))
        middle = relu(self.down4(fine))
        middle = relu(middle + self.block4(middle))
        coarse = relu(self.down8(middle))
        for block in self.blocks8:
            coarse = relu(coarse + block(coarse))
        return fine, middle, coarse


class _Conv(nn.Module):
    """A convolution, followed by batch normalisation until that is folded into it."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2)
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(width_out)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv(maps)
        return maps if self.norm is None else self.norm(maps)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the normalisation with its running statistics, as at inference."""
        norm = self.norm
        if norm is None or norm.running_mean is None or norm.running_var is None:
            return
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        if self.conv.bias is not None:
            self.conv.bias.copy_((self.conv.bias - norm.running_mean) * scale + norm.bias)
        self.conv.weight.mul_(scale[:, None, None, None])
        self.norm = None


def _resized_like(maps: Tensor, like: Tensor) -> Tensor:
    return interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=False)
