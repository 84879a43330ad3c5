"""Image preprocessing of a pretrained tower: the same for training and serving."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from nearer.core.errors import ConfigError
from nearer.models.saved_config import JsonObject

_BICUBIC = 3
_FILTERS = {2: "bilinear", _BICUBIC: "bicubic", 1: "lanczos"}
"""By Pillow's numbers, which every preprocessor_config.json uses."""
_LANCZOS_LOBES = 3  # of the window to each side


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePreprocessing:
    """Resizing and normalisation, as the pretrained model's own processor does them.

    The aspect ratio is not kept: an image is stretched to the tower's square or rectangle.

    Attributes:
        height: rows, pixels.
        width: columns, pixels.
        mean: of red, green and blue, of values in 0..1.
        std: the same.
        scale: factor of bytes, before mean and std.
        filter: bilinear, bicubic or lanczos, all antialiased.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255
    filter: str = "bicubic"

    def __call__(
        self, images: UInt8[Tensor, "frames h w 3"] | Float[Tensor, "frames h w 3"]
    ) -> Float[Tensor, "frames 3 height width"]:
        """Return images as the tower takes them.

        Args:
            images: of one size, with values 0..255.
        """
        planes = images.permute(0, 3, 1, 2).float()
        planes = stretched(planes, self.height, self.width, self.filter)
        mean = torch.tensor(self.mean, device=planes.device)[:, None, None]
        std = torch.tensor(self.std, device=planes.device)[:, None, None]
        return ((planes * self.scale - mean) / std).contiguous()

    def as_tensor(self) -> Float[Tensor, "settings"]:
        """Return the settings as numbers, to be saved with the weights."""
        filters = list(_FILTERS.values())
        sizes = [self.height, self.width, self.scale, filters.index(self.filter)]
        return torch.tensor([*sizes, *self.mean, *self.std], dtype=torch.float64)


@runtime_checkable
class PreprocessesImages(Protocol):
    """A model that prepares images as a pretrained one does.

    Attributes:
        preprocessing: of each camera's images.
    """

    preprocessing: tuple[ImagePreprocessing, ...]


def stretched(
    planes: Float[Tensor, "frames 3 h w"], height: int, width: int, kind: str
) -> Float[Tensor, "frames 3 height width"]:
    """Return images of another size, of whole numbers in 0..255 where the size was another.

    Args:
        planes: images, with values 0..255.
        height: rows, pixels.
        width: columns, pixels.
        kind: bilinear, bicubic or lanczos.
    """
    # Columns first, then rows, rounded to bytes in between: as Pillow does it, and so the
    # models were trained.
    for size in ((planes.shape[2], width), (height, width)):
        if planes.shape[2:] != size:
            planes = resized(planes, size, kind).round().clamp(0, 255)
    return planes


def resized(
    planes: Float[Tensor, "frames 3 h w"], size: tuple[int, int], kind: str
) -> Float[Tensor, "frames 3 height width"]:
    """Return images of another size, equal to those of Pillow's filter of this name.

    Args:
        planes: images.
        size: height and width, pixels.
        kind: bilinear, bicubic or lanczos.
    """
    if kind != "lanczos":
        return interpolate(planes, size, mode=kind, antialias=True)
    # torch has no Lanczos filter; a resize is linear in rows and in columns.
    down, across = (
        _lanczos(before, after).to(planes)
        for before, after in zip(planes.shape[2:], size, strict=True)
    )
    return down @ planes @ across.T


def _lanczos(before: int, after: int) -> Float[Tensor, "after before"]:
    """Return the weight of every old pixel of a row in each new one.

    Source: Duchon 1979, J. Appl. Meteorol. 18, 1016-1022; stretched where images shrink, so that
    no frequency above the new resolution remains.
    """
    step = before / after
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) * step
    distance = (torch.arange(before) + 0.5 - centres[:, None]) / max(step, 1.0)
    window = distance.sinc() * (distance / _LANCZOS_LOBES).sinc()
    weights = torch.where(distance.abs() < _LANCZOS_LOBES, window, 0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def preprocessing_of(processor: JsonObject, height: int, width: int) -> ImagePreprocessing:
    """Return the preprocessing that a model's preprocessor_config.json describes.

    Raises:
        ConfigError: its filter is not implemented here.
    """
    resample = processor.get("resample", _BICUBIC)
    if resample not in _FILTERS:
        filters = ", ".join(f"{number} ({name})" for number, name in _FILTERS.items())
        raise ConfigError(
            f"resample in preprocessor_config.json must be one of {filters}, got {resample}; "
            "choose another model"
        )
    half = [0.5, 0.5, 0.5]
    return ImagePreprocessing(
        height=height,
        width=width,
        mean=tuple(processor.get("image_mean") or half),
        std=tuple(processor.get("image_std") or half),
        scale=float(processor.get("rescale_factor", 1 / 255)),
        filter=_FILTERS[resample],
    )


def check_same_preprocessing(
    weights: Mapping[str, Tensor], settings: Float[Tensor, "cameras settings"]
) -> None:
    """Compare the preprocessing that weights were trained with to the one of this model.

    Args:
        weights: with the buffer `preprocessing_settings`.
        settings: of every camera, of this model.

    Raises:
        RuntimeError: they differ.
    """
    if not torch.equal(weights["preprocessing_settings"].cpu(), settings.cpu()):
        raise RuntimeError("weights trained on images that were preprocessed in another way")
