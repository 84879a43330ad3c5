"""Videos as numpy arrays: mp4 files, AV1 or H.264. Only this module and images.py import PyAV."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import av.error
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8

from nearer.core.arrays import Array
from nearer.core.cpu import own_scheduling
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.feature import MAX_PIXELS, is_deep_grey
from nearer.datasets.lerobot.schema import has_room

_ENCODERS = {"av1": "libsvtav1", "h264": "libx264"}

_SEEK_AHEAD_FRAMES = 16
"""Below this distance, decoding on is cheaper than a seek, which empties the decoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoEncoding:
    """How images become a video, in lerobot's words.

    Attributes:
        codec: av1 or h264.
        pix_fmt: yuv420p halves the resolution of colours in both directions, yuv444p keeps it.
        keyframe_every: frames from one keyframe to the next; few make random access cheap.
        crf: quality; lower is better, on a scale of the codec's own.
        preset: speed; the codec's own names or numbers.
    """

    codec: str
    pix_fmt: str
    keyframe_every: int
    crf: int
    preset: int | str

    @property
    def options(self) -> dict[str, str]:
        """Return the encoder's options, as FFmpeg names them."""
        options = {"g": self.keyframe_every, "crf": self.crf, "preset": self.preset}
        return {name: str(value) for name, value in options.items()}

    def info(self, height: int, width: int, fps: float) -> dict[str, object]:
        """Return the `info` block of a video feature in info.json, as lerobot writes it."""
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": self.codec,
            "video.pix_fmt": self.pix_fmt,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
            "video.g": self.keyframe_every,
            "video.crf": self.crf,
            "video.preset": self.preset,
            "video.fast_decode": 0,
            "video.video_backend": "pyav",
            "video.extra_options": {},
            "is_depth_map": False,
        }

    @classmethod
    def of(cls, info: Mapping[str, Any] | None) -> "VideoEncoding":
        """Return the encoding that an `info` block names; lerobot's where it is silent.

        Raises:
            DatasetError: A codec that is not written here.
        """
        info = info or {}
        default = LEROBOT_ENCODING
        codec = info.get("video.codec", default.codec)
        if codec not in _ENCODERS:
            raise DatasetError(
                f"video.codec must be one of {sorted(_ENCODERS)} to append to, got {codec!r}; "
                "record into a new data set"
            )
        like = default if codec == default.codec else EXACT_COLOURS
        # Older releases of lerobot named codec and pixel format alone.
        return cls(
            codec=codec,
            pix_fmt=info.get("video.pix_fmt", like.pix_fmt),
            keyframe_every=info.get("video.g", like.keyframe_every),
            crf=info.get("video.crf", like.crf),
            preset=info.get("video.preset", like.preset),
        )


LEROBOT_ENCODING = VideoEncoding(
    codec="av1", pix_fmt="yuv420p", keyframe_every=2, crf=30, preset=12
)
"""lerobot's default: small files of large images."""

EXACT_COLOURS = VideoEncoding(
    codec="h264", pix_fmt="yuv444p", keyframe_every=4, crf=12, preset="ultrafast"
)
"""For images in which a block is ten pixels wide, where a bleeding colour moves its edge.

On 700 drawn images of 96 x 128, one core (PSNR of all pixels / of the blocks alone):

    lerobot's AV1      900 frames/s,  0.4 KB a frame,  34.7 / 21.9 dB
    H.264 yuv420p    7,100 frames/s,  2.2 KB a frame,  35.8 / 22.8 dB
    this             7,200 frames/s,  1.7 KB a frame,  50.6 / 47.2 dB
    PNG              2,900 frames/s,  7.2 KB a frame,  exact
"""


def encode_video(
    handle: BinaryIO,
    episodes: Sequence[UInt8[Array, "_ h w 3"]],
    fps: float,
    encoding: VideoEncoding = LEROBOT_ENCODING,
    max_bytes: float = math.inf,
) -> int:
    """Write episodes one after another as one mp4, and return how many frames they have.

    Every episode starts with a keyframe.

    Args:
        handle: A file open for writing.
        episodes: At least one, all of one even height and width.
        fps: Frames per second, in Hz.
        encoding: Codec and quality.
        max_bytes: Before an episode that would bring the packets to this size the file ends,
            unless it is the first; the index, of some bytes a frame, comes on top.

    Raises:
        DatasetError: PyAV was built without the encoder.
        OSError: Writing to `handle` failed.
    """
    num_frames = written_frames = written_bytes = 0
    with own_scheduling(), av.open(handle, "w", format="mp4") as container:
        stream = _video_stream(container, encoding, fps, *episodes[0].shape[1:3])
        for episode in episodes:
            if not has_room(written_bytes, written_frames, num_frames + len(episode), max_bytes):
                break
            for frame in _to_frames(episode):
                # An encoder holds frames back: the file's size is counted in what it returns.
                packets = cast(list[Any], stream.encode(frame))
                container.mux(packets)
                written_frames += len(packets)
                written_bytes += sum(packet.size for packet in packets)
            num_frames += len(episode)
        container.mux(stream.encode(None))
    return num_frames


def _video_stream(
    container: OutputContainer, encoding: VideoEncoding, fps: float, height: int, width: int
) -> VideoStream:
    encoder = _ENCODERS[encoding.codec]
    if encoder not in av.codecs_available:
        raise DatasetError(
            f"av must have the encoder {encoder} to write videos; install PyAV's binary wheel "
            "with `pip install --only-binary av av`, or use dtype 'image'"
        )
    # SVT-AV1 prints its settings for every file unless told to keep to errors before it starts.
    os.environ.setdefault("SVT_LOG", "1")
    stream = container.add_stream(
        encoder, rate=Fraction(fps).limit_denominator(1001), options=encoding.options
    )
    assert isinstance(stream, VideoStream), f"{encoder} must encode images"
    stream.pix_fmt = encoding.pix_fmt
    stream.height, stream.width = height, width
    return stream


def _to_frames(episode: UInt8[Array, "_ h w 3"]) -> Iterator[VideoFrame]:
    for position, image in enumerate(episode):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pict_type = PictureType.NONE if position else PictureType.I
        yield frame


def decode_video(
    path: Path, times_s: Float64[Array, "frames"], fps: float
) -> Iterator[tuple[int, UInt8[Array, "h w 3"]]]:
    """Give the frames of a video that are shown at some times, each with the place of its time.

    They come in the order of their times, as they are decoded.

    Args:
        path: An mp4 file.
        times_s: When, in seconds from the start of the file, in any order.
        fps: Frames per second, in Hz; a frame may lie half a period off.

    Raises:
        DatasetError: The file is missing, damaged, of another rate, or has no frame at one of the
            times.
    """
    order = np.argsort(times_s, kind="stable")
    done = 0
    try:
        # No other format is tried: some are lists that name files elsewhere.
        with av.open(path, format="mp4") as container:
            for image in _decode_ascending(container, times_s[order], fps):
                yield int(order[done]), image
                done += 1
    except FileNotFoundError as error:
        message = f"{path} must exist, got no such file; restore or download it again"
        raise DatasetError(message) from error
    except (av.error.FFmpegError, IndexError, UnicodeDecodeError, _Damaged) as error:
        message = f"{path} must be a whole video, got: {error}; restore or download it again"
        raise DatasetError(message) from error
    if done < len(order):
        raise DatasetError(
            f"{path} must have a frame at {times_s[order[done]]:.3f} s, got none there; "
            "restore or download it again"
        )


def _decode_ascending(
    container: InputContainer, times_s: Float64[Array, "frames"], fps: float
) -> Iterator[Array]:
    """Give the frames at ascending times, up to the first that the video does not have."""
    stream = container.streams.video[0]
    _limit_pixels(stream)
    # One for all frames: to_ndarray of a frame sets up a new one each time, three times as slow.
    reformatter = VideoReformatter()
    frames = _frames_from(container, stream, float(times_s[0]))
    current, current_s, before_s = None, -np.inf, None
    for time_s in times_s.tolist():
        if current is not None and time_s - current_s > _SEEK_AHEAD_FRAMES / fps:
            frames = _frames_from(container, stream, time_s)
            before_s = None
        num_decoded = 0
        while current_s < time_s - 0.5 / fps:
            current = next(frames, None)
            num_decoded += 1
            if current is None:
                return
            current_s = current.time
        if current is None or current_s > time_s + 0.5 / fps:
            return
        if before_s is not None and num_decoded != round((time_s - before_s) * fps):
            raise _Damaged(
                f"{num_decoded} frames from {before_s:.3f} to {time_s:.3f} s, where {fps} fps make "
                f"{round((time_s - before_s) * fps)}"
            )
        before_s = time_s
        if is_deep_grey(current.format.name):
            raise _Damaged(f"{current.format.name}, which is how depth is kept, not colour")
        yield np.asarray(reformatter.reformat(current, format="rgb24").to_ndarray())


def _limit_pixels(stream: VideoStream) -> None:
    """Let no frame be decoded that is larger than any camera's: its header may say anything."""
    context: Any = stream.codec_context  # the stubs know of no codec that is unknown
    if context is None:
        raise _Damaged("an unknown codec")
    if context.width * context.height > MAX_PIXELS:
        raise _Damaged(f"{context.width} x {context.height} pixels, more than {MAX_PIXELS:,}")
    context.options = {"max_pixels": str(MAX_PIXELS)}


def _frames_from(container: InputContainer, stream: VideoStream, time_s: float) -> Iterator[Any]:
    """Give the frames from the last keyframe at or before a time."""
    container.seek(round(time_s / float(stream.time_base or 1)), stream=stream)
    after_keyframe = False
    for frame in container.decode(stream):
        after_keyframe = after_keyframe or frame.key_frame
        # Decoders conceal damage and go on, and what follows inherits it. Before the keyframe it
        # is no damage: such a frame refers to others that the seek has skipped.
        if frame.is_corrupt and after_keyframe:
            raise _Damaged(f"a damaged frame at {frame.time:.3f} s")
        yield frame


class _Damaged(Exception):
    """A frame could not be decoded as it was encoded."""
