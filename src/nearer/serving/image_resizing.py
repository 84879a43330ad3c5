"""Images of other sizes than the checkpoint's, resized as its own preprocessing would."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import UInt8

from nearer.algorithm.model import FoundationModel
from nearer.core.arrays import Array
from nearer.core.spaces import Camera
from nearer.models.vlm.image_preprocessing import PreprocessesImages, stretched

MAX_SIDE_PX = 8192
"""Of an image that is resized; a filter's weights grow with it."""
_DEFAULT = "bilinear"


def filters_of(model: FoundationModel, cameras: Sequence[Camera]) -> Mapping[str, str]:
    """Return by camera the filter of a model's own preprocessing; bilinear where it has none."""
    filters = {camera.name: _DEFAULT for camera in cameras}
    if isinstance(model, PreprocessesImages):
        own = zip(model.spaces.cameras, model.preprocessing, strict=True)
        filters |= {camera.name: settings.filter for camera, settings in own}
    return filters


def resized_image(
    image: UInt8[Array, "h w 3"], camera: Camera, kind: str
) -> UInt8[Array, "height width 3"]:
    """Return an image stretched to a camera's size; its aspect ratio is not kept.

    Args:
        image: of sides from 1 to `MAX_SIDE_PX`.
        camera: of the checkpoint.
        kind: of filter, see `filters_of`.
    """
    planes = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    resized = stretched(planes, camera.height, camera.width, kind)
    return resized[0].permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
