"""One column of a LeRobotDataset: numbers, images or a video, as meta/info.json describes it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.info_values import whole

NUMERIC_DTYPES = frozenset(
    {"bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64"}
    | {"uint8", "uint16", "uint32", "uint64"}
)

AGENT_POS = "observation.state"
ENVIRONMENT_STATE = "observation.environment_state"
FEATURES = "observation.features"
REWARD_FEATURES = "observation.reward_features"
ACTION = "action"
NUMBERS_READ = (AGENT_POS, ENVIRONMENT_STATE, FEATURES, REWARD_FEATURES, ACTION)
"""What training and practice read, beside the standard features: it must be whole."""

MAX_PIXELS = 2**24
"""Of an image: 4,096 x 4,096. A larger one is not decoded."""

_CHANNELS = (1, 3, 4)
"""Grey, RGB, and RGB with opacity; all are read as RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One column of a data set: what a frame holds under one key.

    Args:
        dtype: A numpy dtype for numbers, "image" for images inside parquet, "video" for mp4.
        shape: Axes of one frame; (h, w, 3) for images.
        names: Names of the numbers or axes, as JSON, or None.
        info: How a video is encoded, as JSON; None for anything else.
        other: What else info.json says of it, as JSON; written back as it was read.
    """

    dtype: str
    shape: tuple[int, ...]
    names: object = None
    info: Mapping[str, object] | None = None
    other: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def is_numeric(self) -> bool:
        """Whether frames hold numbers rather than images or text."""
        return self.dtype in NUMERIC_DTYPES

    @property
    def is_camera(self) -> bool:
        """Whether frames hold an image, in parquet or in a video: a camera, in lerobot's words."""
        return self.dtype in ("image", "video")

    @property
    def is_depth_map(self) -> bool:
        """Whether an image holds distances rather than colours.

        Releases of lerobot say so in `info`, in `video_info` or beside them, with and without a
        prefix such as `video.`; a video of more than 8 bits of grey is no picture either.
        """
        said = dict(self.other) | dict(self.info or {})
        for value in self.other.values():
            if isinstance(value, Mapping):
                said |= cast(Mapping[str, object], value)
        flagged = any(key.split(".")[-1] == "is_depth_map" and said[key] for key in said)
        pixels = [said[key] for key in said if key.split(".")[-1] == "pix_fmt"]
        return flagged or any(is_deep_grey(str(pixel_format)) for pixel_format in pixels)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels; some data sets put the channels first in `shape`."""
        height, width = self.shape[:2] if self.shape[-1] in _CHANNELS else self.shape[1:]
        return height, width

    @property
    def statistics_shape(self) -> tuple[int, ...]:
        """Axes of one statistic: the frame's own, or one number a channel for images."""
        return (3, 1, 1) if self.is_camera else self.shape

    def to_json(self) -> dict[str, object]:
        """Return the feature as it stands in info.json."""
        document = {"dtype": self.dtype, "shape": list(self.shape), "names": self.names}
        info = {} if self.info is None else {"info": dict(self.info)}
        return {**document, **info, **self.other}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Feature":
        """Return the feature that info.json describes; raises what a malformed one leads to."""
        own = ("dtype", "shape", "names", "info")
        info: object = document.get("info")
        if info is not None and not isinstance(info, Mapping):
            raise ValueError(f"a feature's info {info!r}")
        feature = cls(
            dtype=str(document["dtype"]),
            shape=tuple(whole(size, "an axis of") for size in document["shape"]),
            names=document.get("names"),
            info=cast(Mapping[str, object] | None, info),
            other={key: value for key, value in document.items() if key not in own},
        )
        if feature.is_camera:
            _check_image_shape(feature)
        return feature


STANDARD_FEATURES: Mapping[str, Feature] = {
    "timestamp": Feature(dtype="float32", shape=(1,)),
    "frame_index": Feature(dtype="int64", shape=(1,)),
    "episode_index": Feature(dtype="int64", shape=(1,)),
    "index": Feature(dtype="int64", shape=(1,)),
    "task_index": Feature(dtype="int64", shape=(1,)),
}
"""Columns that every data set has; the writer fills them in, one number a frame."""


def is_deep_grey(pixel_format: str) -> bool:
    """Tell whether FFmpeg's name of a pixel format means grey of more than 8 bits, as depth has."""
    return pixel_format.startswith("gray") and pixel_format not in ("gray", "gray8", "gray8a")


def check_new_features(features: Mapping[str, Feature]) -> None:
    """Raise DatasetError unless the features can be written.

    Numbers have up to five axes, images are (h, w, 3), videos have even sides (yuv420p halves
    them), and the standard features are left to the writer.
    """
    for key, feature in features.items():
        if key in STANDARD_FEATURES:
            raise DatasetError(f"features must leave {key!r} to the writer; remove it")
        if feature.is_camera:
            _check_camera_feature(key, feature)
        elif not feature.is_numeric:
            dtypes = sorted(NUMERIC_DTYPES | {"image", "video"})
            raise DatasetError(f"{key}: dtype must be one of {dtypes}, got {feature.dtype!r}")
        elif not 1 <= len(feature.shape) <= 5 or math.prod(feature.shape) == 0:
            raise DatasetError(
                f"{key}: shape must have 1 to 5 axes, none empty, got {feature.shape}"
            )


def _check_image_shape(feature: Feature) -> None:
    shape = feature.shape
    if len(shape) != 3 or not {shape[0], shape[-1]} & set(_CHANNELS) or min(shape) < 1:
        raise ValueError(
            f"an image of shape {shape}, neither (height, width, channels) nor channels first, "
            "with 1, 3 or 4 channels"
        )
    if math.prod(feature.image_size) > MAX_PIXELS:
        raise ValueError(f"an image of shape {shape}, of more than {MAX_PIXELS:,} pixels")


def _check_camera_feature(key: str, feature: Feature) -> None:
    if len(feature.shape) != 3 or feature.shape[-1] != 3 or min(feature.shape) < 1:
        raise DatasetError(f"{key}: shape must be (height, width, 3), got {feature.shape}")
    if feature.dtype == "video" and any(size % 2 for size in feature.image_size):
        height, width = feature.image_size
        raise DatasetError(
            f"{key}: a video's height and width must be even, got {height} x {width}; "
            "crop by one pixel, or use dtype 'image'"
        )
