"""perception.json and perception.png: where a vision encoder saw the objects, and how well.

perception.png is a contact sheet: frames as the encoder was given them, pixel for pixel, row after
row. perception.json has the rates, and for each frame of the sheet the believed and true positions.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.evaluation.perception import ObjectErrors
from nearer.runs.files import disk_errors_as_sentences, write_bytes
from nearer.runs.json_files import read_document, write_document

PERCEPTION, CONTACT_SHEET = "perception.json", "perception.png"
COLUMNS = 3
"""Of the contact sheet."""
_ADVICE = "evaluate again with nearer eval --checkpoint RUN --env ID, or delete the file"


class BelievedPoint(NamedTuple):
    """The likeliest position of an object: fractions of the image's width and height."""

    u: float
    v: float
    probability: float


class TruePoint(NamedTuple):
    """A true position: fractions of the image's width and height."""

    u: float
    v: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedObject:
    """An object of a frame, as the encoder believed and as it was; the error is on the table."""

    believed: BelievedPoint
    true: TruePoint
    error_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceptionFrame:
    """A frame of the contact sheet.

    Attributes:
        seed: of the episode's start.
        step: control steps since the start.
        rule: by which it was chosen, see `perception_recorder`.
        objects: first and second named object, and effector; None: the instruction names none.
    """

    seed: int
    instruction: str
    step: int
    rule: Literal["evenly spaced", "largest error"]
    objects: tuple[LocatedObject | None, LocatedObject | None, LocatedObject | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Perception:
    """perception.json: how often a policy's vision encoder had an object in the wrong place.

    Attributes:
        episodes: of the evaluation.
        first: errors of the first object that the instruction names.
        second: of the second one; of no frames where no instruction names two.
        height, width: of a frame, in pixels.
        frames: of the contact sheet, row after row.
    """

    env: str
    episodes: int
    first: ObjectErrors
    second: ObjectErrors
    height: int
    width: int
    frames: tuple[PerceptionFrame, ...]


def write_perception(
    folder: Path, perception: Perception, images: Sequence[UInt8[Array, "h w 3"]]
) -> None:
    """Write perception.png and then perception.json.

    Args:
        folder: of the evaluation.
        perception: with as many frames as there are images.
        images: of its frames.
    """
    write_bytes(folder / CONTACT_SHEET, png(_contact_sheet(images)))
    write_document(folder / PERCEPTION, perception)


def remove_perception(folder: Path) -> None:
    """Remove what an earlier evaluation left, which would be taken for that of a new one."""
    with disk_errors_as_sentences(folder):
        for name in (PERCEPTION, CONTACT_SHEET):
            (folder / name).unlink(missing_ok=True)


def read_perception(folder: Path) -> Perception | None:
    """Return perception.json of an evaluation's folder; None where nothing was recorded."""
    path = folder / PERCEPTION
    return read_document(Perception, path, _ADVICE) if path.exists() else None


def read_frames(folder: Path, perception: Perception) -> list[UInt8[Array, "h w 3"]]:
    """Return the frames of perception.png.

    Raises:
        ConfigError: it is missing, no image, or not of the size that perception.json says.
    """
    path = folder / CONTACT_SHEET
    try:
        sheet = np.asarray(Image.open(path).convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path} must be an image, got: {error}; {_ADVICE}") from error
    height, width = perception.height, perception.width
    rows = -(-len(perception.frames) // COLUMNS)
    if sheet.shape != (rows * height, COLUMNS * width, 3):
        raise ConfigError(
            f"{path} must be {COLUMNS * width} x {rows * height} pixels, as perception.json says, "
            f"got {sheet.shape[1]} x {sheet.shape[0]}; {_ADVICE}"
        )
    corners = [divmod(index, COLUMNS) for index in range(len(perception.frames))]
    return [
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]
        for row, column in corners
    ]


def png(image: UInt8[Array, "h w 3"]) -> bytes:
    """Return an image as PNG."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", optimize=True)
    return out.getvalue()


def _contact_sheet(images: Sequence[UInt8[Array, "h w 3"]]) -> UInt8[Array, "rows columns 3"]:
    height, width, _ = images[0].shape
    rows = -(-len(images) // COLUMNS)
    sheet = np.zeros((rows * height, COLUMNS * width, 3), np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, COLUMNS)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    return sheet
