"""Pictures as numpy arrays: PNG and JPEG bytes, AV1 videos. The only module that knows PyAV."""

# PyAV's own stubs leave the stream of a packet open.
# pyright: reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8

from nearer.errors import DatasetError
from nearer.shapes import Array

Pictures = UInt8[Array, "frames h w 3"]

_ENCODER = "libsvtav1"
_KEYFRAME_EVERY, _CRF, _PRESET = 2, 30, 12
"""lerobot's defaults: a keyframe every second frame makes random access cheap."""

_SEEK_AHEAD_FRAMES = 16
"""Below this distance, decoding on is cheaper than a seek, which empties the decoder."""


def video_info(height: int, width: int, fps: int) -> dict[str, Any]:
    """Return the `info` block of a video feature in info.json, as lerobot writes it."""
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": "av1",
        "video.pix_fmt": "yuv420p",
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
        "video.g": _KEYFRAME_EVERY,
        "video.crf": _CRF,
        "video.preset": _PRESET,
        "video.fast_decode": 0,
        "video.video_backend": "pyav",
        "video.extra_options": {},
        "is_depth_map": False,
    }


def encode_png(pictures: Pictures) -> list[bytes]:
    """Return each picture as PNG, without loss."""
    encoder = VideoCodecContext.create("png", "w")
    encoder.height, encoder.width = pictures.shape[1:3]
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 1)
    return [
        b"".join(bytes(packet) for packet in encoder.encode(_to_frame(picture)))
        for picture in pictures
    ]


def decode_picture(encoded: bytes, where: str) -> UInt8[Array, "h w 3"]:
    """Return a PNG or JPEG picture.

    Args:
        encoded: The bytes of the picture file.
        where: What to call it in a message.

    Raises:
        DatasetError: The bytes are neither, or damaged.
    """
    codec = "mjpeg" if encoded.startswith(b"\xff\xd8") else "png"
    try:
        frames = VideoCodecContext.create(codec, "r").decode(av.Packet(encoded))
    except av.error.FFmpegError as error:
        raise DatasetError(
            f"{where} must be a whole PNG or JPEG picture, got: {error}; restore the file"
        ) from error
    if not frames:
        raise DatasetError(f"{where} must be a whole PNG or JPEG picture; restore the file")
    return _to_array(frames[0])


def encode_video(handle: BinaryIO, episodes: Sequence[UInt8[Array, "_ h w 3"]], fps: int) -> None:
    """Write episodes one after another as one AV1 mp4; every episode starts with a keyframe.

    Args:
        handle: A file open for writing.
        episodes: At least one, all of one even height and width.
        fps: Frames per second, in Hz.

    Raises:
        DatasetError: PyAV was built without libsvtav1.
        OSError: Writing to `handle` failed.
    """
    if _ENCODER not in av.codecs_available:
        raise DatasetError(
            f"av must have the encoder {_ENCODER} to write videos; install PyAV's binary wheel "
            "with `pip install --only-binary av av`, or use dtype 'image'"
        )
    # SVT-AV1 prints its settings for every file unless told to keep to errors before it starts.
    os.environ.setdefault("SVT_LOG", "1")
    options = {"g": str(_KEYFRAME_EVERY), "crf": str(_CRF), "preset": str(_PRESET)}
    with av.open(handle, "w", format="mp4") as container:
        stream = container.add_stream(_ENCODER, rate=fps, options=options)
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = episodes[0].shape[1:3]
        for episode in episodes:
            for position, picture in enumerate(episode):
                frame = _to_frame(picture)
                frame.pict_type = PictureType.NONE if position else PictureType.I
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decode_video(
    path: Path, times_s: Float64[Array, "frames"], fps: int
) -> list[UInt8[Array, "h w 3"]]:
    """Return the frames of a video that are shown at some times, in the order of the times.

    Args:
        path: An mp4 file.
        times_s: When, in seconds from the start of the file, in any order.
        fps: Frames per second, in Hz; a frame may lie half a period off.

    Raises:
        DatasetError: The file is missing, damaged, or has no frame at one of the times.
    """
    order = np.argsort(times_s, kind="stable")
    try:
        with av.open(path) as container:
            found = _decode_ascending(container, times_s[order], fps)
    except FileNotFoundError as error:
        message = f"{path} must exist, got no such file; restore or download it again"
        raise DatasetError(message) from error
    except (av.error.FFmpegError, IndexError) as error:
        message = f"{path} must be a whole video, got: {error}; restore or download it again"
        raise DatasetError(message) from error
    if len(found) < len(order):
        raise DatasetError(
            f"{path} must have a frame at {times_s[order[len(found)]]:.3f} s, got none there; "
            "restore or download it again"
        )
    return [found[rank] for rank in np.argsort(order).tolist()]


def _decode_ascending(
    container: InputContainer, times_s: Float64[Array, "frames"], fps: int
) -> list[Array]:
    """Return the frames at ascending times, up to the first that the video does not have."""
    stream = container.streams.video[0]
    frames = _frames_from(container, stream, float(times_s[0]))
    found: list[Array] = []
    shown, shown_s = None, -np.inf
    for time_s in times_s.tolist():
        if shown is not None and time_s - shown_s > _SEEK_AHEAD_FRAMES / fps:
            frames = _frames_from(container, stream, time_s)
        while shown_s < time_s - 0.5 / fps:
            shown = next(frames, None)
            if shown is None:
                return found
            shown_s = shown.time
        if shown is None or shown_s > time_s + 0.5 / fps:
            return found
        found.append(_to_array(shown))
    return found


def _frames_from(container: InputContainer, stream: VideoStream, time_s: float) -> Any:
    """Return an iterator over the frames from the last keyframe at or before a time."""
    container.seek(round(time_s / float(stream.time_base or 1)), stream=stream)
    return container.decode(stream)


def _to_frame(picture: UInt8[Array, "h w 3"]) -> VideoFrame:
    return VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def _to_array(frame: VideoFrame) -> UInt8[Array, "h w 3"]:
    return np.asarray(frame.to_ndarray(format="rgb24"))
