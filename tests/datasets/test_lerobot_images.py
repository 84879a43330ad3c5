"""PNG and JPEG bytes as arrays."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.images import decode_image, encode_png
from nearer.datasets.lerobot.parquet import read_encoded_images

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"


def grey_jpeg() -> bytes:
    """Return a JPEG of 48 x 64 pixels, all of them 90."""
    encoder = VideoCodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = 48, 64
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 1)
    frame = VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
    packets = [*encoder.encode(frame.reformat(format="yuvj420p")), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (48, 64)])
def test_encode_png_of_noise_is_decoded_bit_for_bit(height: int, width: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    encoded = encode_png(images)
    assert all(image.startswith(b"\x89PNG\r\n") for image in encoded)
    assert np.array_equal([decode_image(image, "an image") for image in encoded], images)


def test_encode_png_of_a_mirrored_view_keeps_its_order() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)[:, :, ::-1]
    assert np.array_equal(decode_image(encode_png(images)[0], "an image"), images[0])


def test_decode_image_of_a_jpeg_is_close_to_its_colour() -> None:
    image = decode_image(grey_jpeg(), "an image")
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    assert np.abs(image.astype(int) - 90).max() <= 2


def test_decode_image_of_lerobots_sample_has_its_size() -> None:
    path = SAMPLES / "image/data/chunk-000/file-000.parquet"
    (encoded,) = read_encoded_images(path, "observation.images.top", np.array([3]))
    assert decode_image(encoded, "a frame").shape == (96, 128, 3)


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[: len(whole) // 2], lambda whole: b"no image", lambda whole: b""],
)
def test_decode_image_of_damaged_bytes_names_the_place(
    damage: Callable[[bytes], bytes],
) -> None:
    whole = encode_png(np.random.default_rng(0).integers(0, 256, (1, 9, 9, 3), dtype=np.uint8))[0]
    with pytest.raises(DatasetError, match=r"^row 3 of a file must be a whole PNG or JPEG image"):
        decode_image(damage(whole), "row 3 of a file")
