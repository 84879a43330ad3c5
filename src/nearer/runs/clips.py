"""Clips of practised episodes, for people to look at: one JPEG an episode, frame beside frame.

    clips/000008/1234.jpg     iteration of Stage 2 / seed of the episode

A film strip is one small file that every browser can show frame by frame, without a video player.
"""

from collections.abc import Collection
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nearer.core.arrays import Array
from nearer.runs.files import replace_bytes

CLIPS = "clips"
SIDE = 8
"""Frames beside each other, and below each other."""
FRAMES = SIDE * SIDE
_WIDTH = 160  # pixels of a frame, at most
_QUALITY = 75
_DRAWN = Image.Resampling.BOX


class FilmStrip:
    """The frames of an episode as they come, in bounded memory.

    Of long episodes every second frame is kept, or every fourth, and always the last.
    """

    def __init__(self) -> None:
        self._frames: list[Array] = []
        self._every = 1
        self._seen = 0
        self._last: Array | None = None

    def add(self, image: UInt8[Array, "h w c"]) -> None:
        """Take the next image of the episode; all have one size."""
        if self._seen % self._every == 0:
            self._frames.append(_small(image))
            self._last = None
        else:
            self._last = image
        self._seen += 1
        if len(self._frames) == 2 * FRAMES:
            self._last = self._frames[-1]
            self._frames = self._frames[::2]
            self._every *= 2

    @property
    def frames(self) -> int:
        """Count the frames that were added."""
        return self._seen

    def jpeg(self) -> bytes:
        """Return `FRAMES` frames, evenly in time, the first and the last among them, as one JPEG.

        Frames of shorter episodes are repeated. There must be one frame at least.
        """
        frames = self._frames + ([] if self._last is None else [_small(self._last)])
        rows = np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)
        grid = np.stack([frames[int(row)] for row in rows])
        height, width, channels = grid.shape[1:]
        grid = grid.reshape(SIDE, SIDE, height, width, channels).swapaxes(1, 2)
        out = BytesIO()
        strip = Image.fromarray(grid.reshape(SIDE * height, SIDE * width, channels))
        strip.save(out, format="JPEG", quality=_QUALITY)
        return out.getvalue()


def clip_path(run: Path, iteration: int, seed: int) -> Path:
    """Return the file of an episode's clip."""
    return run / CLIPS / f"{iteration:06d}" / f"{seed}.jpg"


def write_clip(run: Path, iteration: int, seed: int, jpeg: bytes) -> None:
    """Write the clip of an episode.

    Raises:
        NearerError: the disk does not take it.
    """
    replace_bytes(clip_path(run, iteration, seed), jpeg)


def keep_clips(run: Path, iteration: int, seeds: Collection[int]) -> None:
    """Remove the clips of an iteration but those of these episodes."""
    names = {f"{seed}.jpg" for seed in seeds}
    for path in (run / CLIPS / f"{iteration:06d}").glob("*.jpg"):
        if path.name not in names:
            path.unlink(missing_ok=True)


def _small(image: UInt8[Array, "h w c"]) -> UInt8[Array, "small_h small_w c"]:
    factor = -(-image.shape[1] // _WIDTH)
    if factor == 1:
        return image.copy()
    height, width = image.shape[0] // factor, image.shape[1] // factor
    return np.asarray(Image.fromarray(image).resize((width, height), _DRAWN))
