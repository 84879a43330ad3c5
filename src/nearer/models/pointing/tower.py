"""The pointing tower: images and sentences -> where the mentioned objects are.

    image    --network-----------> keys, one for every cell of two by two pixels
    sentence --sentence encoder--> three queries
    query . key -> softmax over the image -> (u, v) of its peak, and the peak's probability

Pointing is attention with LayerNorm on queries and keys. Keys carry no position embedding: they say
what is there, not where.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from nearer.models.pointing.convolution import fold_batch_norm
from nearer.models.pointing.lite0_network import Lite0Network
from nearer.models.pointing.sentence_encoder import SentenceEncoder, Vocabulary
from nearer.models.pointing.unet import UNet
from nearer.models.settings import Network

NUM_SLOTS = 3
"""First object, second object, effector."""
EFFECTOR = 2
"""The slot of the effector."""
_SHARPNESS = 0.4
"""Of the softmax before pretraining."""
_WINDOW = 3
"""A peak is the mean over this many cells to each side."""
_CACHED_SENTENCES = 4096


_NETWORKS: Mapping[str, Callable[[int], nn.Module]] = {"unet": UNet, "lite0": Lite0Network}


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig:
    """Which tower.

    Attributes:
        network: lite0, the larger one, or unet, which learns from it.
        width: of queries and keys.
    """

    network: Network
    width: int = 64


class PointingTower(nn.Module):
    """The built-in vision encoder with its sentence encoder."""

    def __init__(self, config: TowerConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.network = _NETWORKS[config.network](config.width)
        self.words = SentenceEncoder(vocabulary, config.width)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(_SHARPNESS)))
        self._query_cache: OrderedDict[str, Tensor] = OrderedDict()
        self._cached_version = -1

    def keys(
        self, images: UInt8[Tensor, "frames h w c"]
    ) -> Float[Tensor, "frames width rows columns"]:
        """Return the key of every cell of two by two pixels.

        In float32 also under autocast: rounded keys would move the peaks.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self.network(images)

    def fold_batch_norm(self) -> None:
        """Fold batch normalisation into the convolutions: the same outputs, faster."""
        fold_batch_norm(self.network)

    def queries(self, sentences: Sequence[str]) -> Float[Tensor, "sentences 3 width"]:
        """Return the queries of the three slots of every sentence."""
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
        keys = self.keys(images)
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
        keys = self.keys(images)
        return peaks(self.logits(keys, self.queries(sentences))).flatten(1)


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
