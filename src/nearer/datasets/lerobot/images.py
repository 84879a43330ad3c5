"""Images as numpy arrays: PNG and JPEG bytes. Only this module and videos.py import PyAV."""

# PyAV's own stubs leave the stream of a packet open.
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from fractions import Fraction

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from jaxtyping import UInt8

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.feature import MAX_PIXELS, is_deep_grey

_FAST_PNG = {"compression_level": "1", "pred": "sub"}
"""Six times as fast as zlib's default level, for files half as large again."""


def encode_png(images: UInt8[Array, "frames h w 3"]) -> list[bytes]:
    """Return each image as PNG, without loss."""
    encoder = VideoCodecContext.create("png", "w")
    encoder.height, encoder.width = images.shape[1:3]
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 1)
    encoder.options = dict(_FAST_PNG)
    return [
        b"".join(bytes(packet) for packet in encoder.encode(_to_frame(image))) for image in images
    ]


def decode_image(encoded: bytes, where: str) -> UInt8[Array, "h w 3"]:
    """Return a PNG or JPEG image.

    Args:
        encoded: The bytes of the image file.
        where: What to call it in a message.

    Raises:
        DatasetError: The bytes are neither, damaged, a depth map, or of more than MAX_PIXELS.
    """
    decoder = VideoCodecContext.create("mjpeg" if encoded.startswith(b"\xff\xd8") else "png", "r")
    decoder.options = {"max_pixels": str(MAX_PIXELS)}  # a few bytes may announce gigabytes
    try:
        frames = decoder.decode(av.Packet(encoded))
    except av.error.FFmpegError as error:
        raise DatasetError(
            f"{where} must be a whole PNG or JPEG image, got: {error}; restore the file"
        ) from error
    if not frames:
        raise DatasetError(f"{where} must be a whole PNG or JPEG image; restore the file")
    if is_deep_grey(frames[0].format.name):
        raise DatasetError(
            f"{where} must be an image of 8 bits a colour, got {frames[0].format.name}, which is "
            "how depth is kept; mark the feature with is_depth_map in meta/info.json"
        )
    return np.asarray(frames[0].to_ndarray(format="rgb24"))


def _to_frame(image: UInt8[Array, "h w 3"]) -> VideoFrame:
    return VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
