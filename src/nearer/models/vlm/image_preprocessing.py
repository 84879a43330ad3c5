"""Camera pictures -> what a vision tower takes: one way for training and for serving."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from nearer.core.errors import ConfigError

_BICUBIC = 3
_KNOWN = {2: "bilinear", _BICUBIC: "bicubic", 1: "lanczos"}
"""As Pillow, and so every processor's config, numbers them."""
_LOBES = 3  # of Lanczos' window to each side


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparing:
    """How pictures are resized and normalised; read from the pretrained model's own settings.

    The aspect ratio is not kept: a picture fills the tower's square or rectangle.

    Attributes:
        height: rows, pixels.
        width: columns, pixels.
        mean: of red, green and blue, of values in 0..1.
        std: the same.
        scale: what bytes are multiplied by before.
        filter: bilinear, bicubic or lanczos, all without aliasing.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255
    filter: str = "bicubic"

    def __call__(
        self, pictures: UInt8[Tensor, "frames h w 3"] | Float[Tensor, "frames h w 3"]
    ) -> Float[Tensor, "frames 3 height width"]:
        """Return pictures as the tower takes them.

        Args:
            pictures: of one size, with values 0..255.
        """
        planes = pictures.permute(0, 3, 1, 2).float()
        # Columns first, then rows, in bytes: as Pillow does it, and so the models were trained.
        for size in ((planes.shape[2], self.width), (self.height, self.width)):
            if planes.shape[2:] != size:
                planes = resized(planes, size, self.filter).round().clamp(0, 255)
        mean = torch.tensor(self.mean, device=planes.device)[:, None, None]
        std = torch.tensor(self.std, device=planes.device)[:, None, None]
        return ((planes * self.scale - mean) / std).contiguous()

    def numbers(self) -> Float[Tensor, "settings"]:
        """Return the settings as numbers, to be kept with the weights."""
        filters = list(_KNOWN.values())
        rest = [self.height, self.width, self.scale, filters.index(self.filter)]
        return torch.tensor([*rest, *self.mean, *self.std], dtype=torch.float64)


def resized(
    planes: Float[Tensor, "frames 3 h w"], size: tuple[int, int], kind: str
) -> Float[Tensor, "frames 3 height width"]:
    """Return pictures of another size, as Pillow's filter of this name makes them.

    Args:
        planes: pictures.
        size: height and width, pixels.
        kind: bilinear, bicubic or lanczos.
    """
    if kind != "lanczos":  # which torch has not
        return interpolate(planes, size, mode=kind, antialias=True)
    down, across = (
        _lanczos(before, after).to(planes)
        for before, after in zip(planes.shape[2:], size, strict=True)
    )
    return down @ planes @ across.T


def _lanczos(before: int, after: int) -> Float[Tensor, "after before"]:
    """Return what each pixel of a resized row takes of every pixel it had.

    Source: Duchon 1979, J. Appl. Meteorol. 18, 1016-1022; stretched where pictures shrink.
    """
    step = before / after
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) * step
    away = (torch.arange(before) + 0.5 - centres[:, None]) / max(step, 1.0)
    weights = torch.where(away.abs() < _LOBES, away.sinc() * (away / _LOBES).sinc(), 0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def preparing_of(processor: Mapping[str, Any], height: int, width: int) -> Preparing:
    """Return how pictures are prepared, from a pretrained model's preprocessor_config.json.

    Raises:
        ConfigError: it asks for something that is not known here.
    """
    resample = processor.get("resample", _BICUBIC)
    if resample not in _KNOWN:
        known = ", ".join(f"{number} ({name})" for number, name in _KNOWN.items())
        raise ConfigError(
            f"resample in preprocessor_config.json must be one of {known}, got {resample}; choose "
            "another model"
        )
    half = [0.5, 0.5, 0.5]
    return Preparing(
        height=height,
        width=width,
        mean=tuple(processor.get("image_mean") or half),
        std=tuple(processor.get("image_std") or half),
        scale=float(processor.get("rescale_factor", 1 / 255)),
        filter=_KNOWN[resample],
    )


def check_prepared(
    weights: Mapping[str, Tensor], prepared: Float[Tensor, "cameras settings"]
) -> None:
    """Compare how pictures were prepared for weights with how they are here.

    Args:
        weights: with the buffer `prepared`.
        prepared: settings of every camera here.

    Raises:
        RuntimeError: they differ.
    """
    if not torch.equal(weights["prepared"].cpu(), prepared.cpu()):
        raise RuntimeError("weights of pictures that were prepared in another way")
