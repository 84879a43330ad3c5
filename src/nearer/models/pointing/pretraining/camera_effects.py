"""Camera effects on a drawn scene: resampling, blur, exposure, white balance, noise, JPEG."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from nearer.core.arrays import Array
from nearer.models.pointing.pretraining.scene import HEIGHT_PX, WIDTH_PX


def with_camera_effects(image: Image.Image, rng: np.random.Generator) -> UInt8[Array, "h w 3"]:
    """Return the image at its final size with random resampling, blur, colour cast and noise."""
    image = _reduced(image, rng)
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    pixels = np.asarray(image, np.float32) / 255
    # Gamma, gain a channel (white balance and exposure), and a black level; values in 0..1.
    pixels = pixels ** np.float32(np.exp(rng.normal(0, 0.15)))
    gain = rng.normal(1, 0.06, 3) * rng.uniform(0.8, 1.15)
    pixels = pixels * gain.astype(np.float32) + np.float32(rng.normal(0, 0.02))
    if rng.random() < 0.6:
        sigma = np.float32(rng.uniform(0, 0.025))
        pixels = pixels + sigma * rng.standard_normal(pixels.shape, np.float32)
    rgb = (255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    return _compressed(rgb, int(rng.integers(45, 95))) if rng.random() < 0.2 else rgb


def _reduced(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Halve the size: by averaging, as a camera, or by nearest neighbour, as a plain renderer."""
    if rng.random() < 0.5:
        return image.reduce(2)
    nearest = Image.Resampling.NEAREST
    return image.resize((WIDTH_PX, HEIGHT_PX), nearest)


def _compressed(rgb: UInt8[Array, "h w 3"], quality: int) -> UInt8[Array, "h w 3"]:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))
