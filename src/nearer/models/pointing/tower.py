"""Pictures and sentences -> where the mentioned things are.

    picture --enlarged, Lite0, frozen--> map --+
            --fine stem, stride 2 and 4--------+--> keys of stride 2
    sentence --words-> three queries
    query . key -> softmax over the picture -> (u, v) of its peak, and the peak's share

Pointing by attention with LayerNorm on queries and keys; keys know what is there, not where.
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
_WINDOW = 3
"""The peak is averaged over this many cells to each side."""
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
    """The built-in vision-language model, as far as pointing goes."""

    def __init__(self, config: TowerConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.trunk = Lite0()
        self.eyes = FineStem(config)
        self.words = SentenceEncoder(vocabulary, config.width)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(0.25)))
        self._known: OrderedDict[str, Tensor] = OrderedDict()
        self._known_of = -1

    @torch.no_grad()
    def maps(self, pictures: UInt8[Tensor, "frames h w c"]) -> Float[Tensor, "frames channels y x"]:
        """Return the frozen maps, which need computing only once a frame.

        In float32 also under autocast: bfloat16 is slow where the processor has none.
        """
        with torch.autocast(pictures.device.type, enabled=False):
            return self.trunk(pictures)

    def keys(
        self,
        pictures: UInt8[Tensor, "frames h w c"],
        maps: Float[Tensor, "frames channels y x"],
    ) -> Float[Tensor, "frames width rows columns"]:
        """Return what lies in every cell of two by two pixels; this part trains.

        In float32 also under autocast: coarse keys would make coarse places.
        """
        with torch.autocast(pictures.device.type, enabled=False):
            return self.eyes(pictures, maps)

    def queries(self, sentences: Sequence[str]) -> Float[Tensor, "sentences 3 width"]:
        """Return what the three slots of every sentence look for; this part trains."""
        device = self.log_sharpness.device
        with torch.autocast(device.type, enabled=False):
            return self.words(self.words.vocabulary.encode(sentences).to(device))

    def logits(
        self,
        keys: Float[Tensor, "frames width rows columns"],
        queries: Float[Tensor, "frames slots width"],
    ) -> Float[Tensor, "frames slots rows columns"]:
        """Return how well every cell fits every query, in float32 also under autocast."""
        with torch.autocast(keys.device.type, enabled=False):
            found = queries.float() @ keys.float().flatten(2)
            return self.log_sharpness.exp() * found.reshape(*found.shape[:2], *keys.shape[2:])

    @torch.inference_mode()
    def see(
        self, pictures: UInt8[Tensor, "frames h w c"], sentences: Sequence[str]
    ) -> Float[Tensor, "frames 9"]:
        """Return (u, v, share of the peak) of the three slots: first, second, effector.

        Args:
            pictures: RGB, 96 rows by 128 columns.
            sentences: one a picture.
        """
        logits = self.attend(pictures, self.recall(sentences)[:, None])
        return peaks(logits[:, 0]).flatten(1)

    @torch.inference_mode()
    def attend(
        self,
        pictures: UInt8[Tensor, "frames h w c"],
        queries: Float[Tensor, "frames candidates slots width"],
    ) -> Float[Tensor, "frames candidates slots rows columns"]:
        """Return how well every cell of a picture fits what each of its queries looks for.

        Args:
            pictures: RGB, 96 rows by 128 columns; the keys of each are made once.
            queries: from `recall`, of as many sentences for each picture.
        """
        keys = self.keys(pictures, self.maps(pictures))
        found = self.logits(keys, queries.flatten(1, 2))
        return found.reshape(*queries.shape[:3], *keys.shape[2:])

    @torch.inference_mode()
    def recall(self, sentences: Sequence[str]) -> Float[Tensor, "sentences slots width"]:
        """Return the queries of sentences, read anew only if the words' weights have changed."""
        weights = sum(one._version for one in self.words.parameters())
        if weights != self._known_of:
            self._known.clear()
            self._known_of = weights
        new = [one for one in dict.fromkeys(sentences) if one not in self._known]
        if new:
            self._known.update(zip(new, self.queries(new), strict=True))
        found = torch.stack([self._known[one] for one in sentences])
        while len(self._known) > _CACHED_SENTENCES:
            self._known.popitem(last=False)
        return found

    def forward(
        self, pictures: UInt8[Tensor, "frames h w c"], sentences: Sequence[str]
    ) -> Float[Tensor, "frames 9"]:
        """Return what `see` returns, with gradients."""
        keys = self.keys(pictures, self.maps(pictures))
        return peaks(self.logits(keys, self.queries(sentences))).flatten(1)


class FineStem(nn.Module):
    """The trainable half of the vision: small shapes, sharp places, and what Lite0 adds."""

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

    def fold(self) -> None:
        """Put batch normalisation into the convolutions: the same answers, faster."""
        for module in self.modules():
            if isinstance(module, _Conv):
                module.fold()

    def forward(
        self, pictures: UInt8[Tensor, "frames h w c"], maps: Tensor
    ) -> Float[Tensor, "frames width rows columns"]:
        """Return normalised keys at stride 2."""
        relu = nn.functional.relu
        hidden = (pictures.permute(0, 3, 1, 2).float() - 127) / 64
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        fine = relu(self.second(relu(self.first(hidden))))
        middle = self.down(fine)
        middle = relu(middle + _grown(self.learned(maps), middle))
        middle = relu(middle + self.gather(relu(self.around(middle))))
        fine = relu(fine + _grown(self.up(middle), fine))
        keys = self.key(torch.cat([fine, relu(self.last(fine))], dim=1))
        return self.norm(keys.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Conv(nn.Module):
    """A convolution, while it is pretrained with batch normalisation after it."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2)
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(width_out)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv(maps)
        return maps if self.norm is None else self.norm(maps)

    @torch.no_grad()
    def fold(self) -> None:
        """Put the normalisation, as it is at inference, into the convolution."""
        norm = self.norm
        if norm is None or norm.running_mean is None or norm.running_var is None:
            return
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        if self.conv.bias is not None:
            self.conv.bias.copy_((self.conv.bias - norm.running_mean) * scale + norm.bias)
        self.conv.weight.mul_(scale[:, None, None, None])
        self.norm = None


def _grown(maps: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(
        maps, size=like.shape[2:], mode="bilinear", align_corners=False
    )


def peaks(
    logits: Float[Tensor, "frames slots rows columns"],
) -> Float[Tensor, "frames slots 3"]:
    """Return (u, v) of each highest cell's neighbourhood, and its share of the softmax.

    u and v are 0..1 across and down the picture; the average over a small window places a peak
    between cells.
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
    share = (near.logsumexp(dim=2) - flat.logsumexp(dim=2)).exp()
    weights = near.softmax(dim=2).reshape(inside.shape)
    u = ((weights.sum(dim=2) * x).sum(dim=2) + 0.5) / columns
    v = ((weights.sum(dim=3) * y).sum(dim=2) + 0.5) / rows
    return torch.stack([u, v, share], dim=2)
