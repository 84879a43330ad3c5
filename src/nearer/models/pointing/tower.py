"""The pointing tower: images and sentences -> where the mentioned objects are.

    image --enlarged, EfficientNet-Lite0, frozen--> feature map --+
          --convolutional stem, stride 2 and 4--------------------+--> keys at stride 2
    sentence --sentence encoder--> three queries
    query . key -> softmax over the image -> (u, v) of its peak, and the peak's probability

Pointing is attention with LayerNorm on queries and keys. Keys carry no position embedding: they say
what is there, not where.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from nearer.models.pointing.efficientnet_lite0 import CHANNELS, Lite0
from nearer.models.pointing.sentence_encoder import SentenceEncoder, Vocabulary

NUM_SLOTS = 3
"""First object, second object, effector."""
EFFECTOR = 2
"""The slot of the effector."""
_WINDOW = 3
"""A peak is the mean over this many cells to each side."""
_CACHED_SENTENCES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig:
    """Sizes of the tower.

    Attributes:
        width: of queries and keys.
        fine: channels at stride 2.
        middle: channels at stride 4.
    """

    width: int = 64
    fine: int = 24
    middle: int = 64


class PointingTower(nn.Module):
    """The built-in vision encoder with its sentence encoder."""

    def __init__(self, config: TowerConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.trunk = Lite0()
        self.stem = ConvStem(config)
        self.words = SentenceEncoder(vocabulary, config.width)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(0.25)))
        self._query_cache: OrderedDict[str, Tensor] = OrderedDict()
        self._cached_version = -1

    @torch.no_grad()
    def maps(self, images: UInt8[Tensor, "frames h w c"]) -> Float[Tensor, "frames channels y x"]:
        """Return the frozen trunk's feature maps.

        In float32 also under autocast: bfloat16 is slow on processors without it.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self.trunk(images)

    def keys(
        self,
        images: UInt8[Tensor, "frames h w c"],
        maps: Float[Tensor, "frames channels y x"],
    ) -> Float[Tensor, "frames width rows columns"]:
        """Return the key of every cell of two by two pixels; this part is trainable.

        In float32 also under autocast: rounded keys would move the peaks.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self.stem(images, maps)

    def queries(self, sentences: Sequence[str]) -> Float[Tensor, "sentences 3 width"]:
        """Return the queries of the three slots of every sentence; this part is trainable."""
        device = self.log_sharpness.device
        with torch.autocast(device.type, enabled=False):
            return self.words(self.words.vocabulary.encode(sentences).to(device))

    def logits(
        self,
        keys: Float[Tensor, "frames width rows columns"],
        queries: Float[Tensor, "frames slots width"],
    ) -> Float[Tensor, "frames slots rows columns"]:
        """Return sharpness times query . key for every cell, in float32 also under autocast."""
        with torch.autocast(keys.device.type, enabled=False):
            products = queries.float() @ keys.float().flatten(2)
            maps = products.reshape(*products.shape[:2], *keys.shape[2:])
            return self.log_sharpness.exp() * maps

    @torch.inference_mode()
    def locate(
        self, images: UInt8[Tensor, "frames h w c"], sentences: Sequence[str]
    ) -> Float[Tensor, "frames 9"]:
        """Return (u, v, probability) of the peaks of the three slots: first, second, effector.

        Args:
            images: RGB, 96 rows by 128 columns.
            sentences: one an image.
        """
        logits = self.attend(images, self.cached_queries(sentences)[:, None])
        return peaks(logits[:, 0]).flatten(1)

    @torch.inference_mode()
    def attend(
        self,
        images: UInt8[Tensor, "frames h w c"],
        queries: Float[Tensor, "frames candidates slots width"],
    ) -> Float[Tensor, "frames candidates slots rows columns"]:
        """Return the logit of every cell of an image for each of its queries.

        Args:
            images: RGB, 96 rows by 128 columns; the keys of each are computed once.
            queries: from `cached_queries`, of equally many sentences for each image.
        """
        keys = self.keys(images, self.maps(images))
        logits = self.logits(keys, queries.flatten(1, 2))
        return logits.reshape(*queries.shape[:3], *keys.shape[2:])

    @torch.inference_mode()
    def cached_queries(self, sentences: Sequence[str]) -> Float[Tensor, "sentences slots width"]:
        """Return the queries of sentences, computed anew only if the encoder's weights changed."""
        # torch counts the in-place changes of every tensor: equal sums mean equal weights.
        version = sum(weight._version for weight in self.words.parameters())
        if version != self._cached_version:
            self._query_cache.clear()
            self._cached_version = version
        new = [text for text in dict.fromkeys(sentences) if text not in self._query_cache]
        if new:
            self._query_cache.update(zip(new, self.queries(new), strict=True))
        queries = torch.stack([self._query_cache[text] for text in sentences])
        while len(self._query_cache) > _CACHED_SENTENCES:
            self._query_cache.popitem(last=False)
        return queries

    def forward(
        self, images: UInt8[Tensor, "frames h w c"], sentences: Sequence[str]
    ) -> Float[Tensor, "frames 9"]:
        """Return what `locate` returns, with gradients."""
        keys = self.keys(images, self.maps(images))
        return peaks(self.logits(keys, self.queries(sentences))).flatten(1)


class ConvStem(nn.Module):
    """The trainable convolutions: small shapes at stride 2 and 4, merged with the trunk's map."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        fine, middle = config.fine, config.middle
        self.first = _Conv(3, fine, 5, 2)
        self.second = _Conv(fine, fine, 3)
        self.down = _Conv(fine, middle, 3, 2)
        self.learned = _Conv(CHANNELS, middle, 1)
        self.around = _Conv(middle, 2 * middle, 3)
        self.gather = _Conv(2 * middle, middle, 1)
        self.up = _Conv(middle, fine, 1)
        self.last = _Conv(fine, fine, 3)
        self.key = nn.Conv2d(2 * fine, config.width, 1)
        self.norm = nn.LayerNorm(config.width)

    def fold_batch_norm(self) -> None:
        """Fold batch normalisation into the convolutions: the same outputs, faster."""
        for module in self.modules():
            if isinstance(module, _Conv):
                module.fold()

    def forward(
        self, images: UInt8[Tensor, "frames h w c"], maps: Tensor
    ) -> Float[Tensor, "frames width rows columns"]:
        """Return normalised keys at stride 2."""
        relu = nn.functional.relu
        hidden = (images.permute(0, 3, 1, 2).float() - 127) / 64  # 0..255 -> about -2..2
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        fine = relu(self.second(relu(self.first(hidden))))
        middle = self.down(fine)
        middle = relu(middle + _resized_like(self.learned(maps), middle))
        middle = relu(middle + self.gather(relu(self.around(middle))))
        fine = relu(fine + _resized_like(self.up(middle), fine))
        keys = self.key(torch.cat([fine, relu(self.last(fine))], dim=1))
        return self.norm(keys.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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
    return nn.functional.interpolate(
        maps, size=like.shape[2:], mode="bilinear", align_corners=False
    )


def peaks(
    logits: Float[Tensor, "frames slots rows columns"],
) -> Float[Tensor, "frames slots 3"]:
    """Return (u, v) of each softmax's peak, and the probability of its neighbourhood.

    u and v are 0..1 across and down the image. The expectation over a window around the highest
    cell places the peak between cells; the rest of the softmax does not pull on it.
    """
    rows, columns = logits.shape[2:]
    flat = logits.float().flatten(2)
    best = flat.argmax(dim=2)
    steps = torch.arange(-_WINDOW, _WINDOW + 1, device=logits.device)
    y = (best // columns)[..., None] + steps
    x = (best % columns)[..., None] + steps
    inside = ((y >= 0) & (y < rows))[..., :, None] & ((x >= 0) & (x < columns))[..., None, :]
    index = y.clamp(0, rows - 1)[..., :, None] * columns + x.clamp(0, columns - 1)[..., None, :]
    near = flat.gather(2, index.flatten(2)).masked_fill(~inside.flatten(2), -torch.inf)
    probability = (near.logsumexp(dim=2) - flat.logsumexp(dim=2)).exp()
    weights = near.softmax(dim=2).reshape(inside.shape)
    u = ((weights.sum(dim=2) * x).sum(dim=2) + 0.5) / columns  # of a cell's centre
    v = ((weights.sum(dim=3) * y).sum(dim=2) + 0.5) / rows
    return torch.stack([u, v, probability], dim=2)
