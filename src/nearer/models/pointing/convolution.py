"""Convolutions with batch normalisation, which is folded into them for inference."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


class ConvNorm(nn.Module):
    """A convolution, followed by batch normalisation until that is folded into it."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2)
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(width_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the convolved maps, normalised."""
        maps = self.conv(maps)
        return maps if self.norm is None else self.norm(maps)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the normalisation with its running statistics, as at inference."""
        norm = self.norm
        if norm is None or norm.running_mean is None or norm.running_var is None:
            return
        self.norm = None
        if self.conv.weight.is_meta:  # only sizes are asked for, and there is nothing to compute
            return
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        if self.conv.bias is not None:
            self.conv.bias.copy_((self.conv.bias - norm.running_mean) * scale + norm.bias)
        self.conv.weight.mul_(scale[:, None, None, None])


def resized_like(maps: Tensor, like: Tensor) -> Tensor:
    """Return maps enlarged to the rows and columns of others, bilinear."""
    return interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=False)


def fold_batch_norm(network: nn.Module) -> None:
    """Fold every batch normalisation into its convolution: the same outputs, faster."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.fold()
