"""Flat images that lie in the pretraining's scenes as distractors: emoji and easy-VQA's drawings.

Their images and names come from other projects, so the vocabulary is wider than this package's own.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.models.pointing.pretraining.captions import words_of_the_corpus
from nearer.models.pointing.vocabulary import HELD_OUT

_CATEGORIES = (
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
)
_NUM_EASY_VQA = 600
_SIDE_PX = 48


@dataclass(frozen=True, slots=True)
class FlatImage:
    """An image with transparency, and its name."""

    words: str
    rgba: UInt8[Array, "side side 4"]


def emoji_images(folder: Path) -> list[FlatImage]:
    """Return the emoji whose names are one plain word, from npm's emoji-datasource-google.

    Raises:
        ConfigError: the folder is not that package, unpacked.
    """
    taken = set(words_of_the_corpus())
    try:
        rows = json.loads((folder / "emoji.json").read_text())
        return [
            FlatImage(row["short_name"], _rgba(folder / "img/google/64" / row["image"]))
            for row in rows
            if row["category"] in _CATEGORIES
            and row["has_img_google"]
            and re.fullmatch("[a-z]+", row["short_name"])
            and row["short_name"] not in taken
        ]
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"--emoji must be the unpacked npm package emoji-datasource-google, got {folder}: "
            f"{error}; npm pack emoji-datasource-google, unpack it and name its folder"
        ) from error


def easy_vqa_images() -> list[FlatImage]:
    """Return drawings of coloured shapes, named as in "red triangle picture"; no held-out pair.

    Raises:
        ConfigError: the package easy-vqa is not installed.
    """
    try:
        import easy_vqa  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            "--easy-vqa must find the package easy-vqa, got none; "
            "pip install 'nearer[pretrain]', or leave it out with --no-easy-vqa"
        ) from error
    untyped: Any = easy_vqa
    shapes: dict[int, str] = {}
    colours: dict[int, str] = {}
    for question, answer, number in zip(*untyped.get_train_questions(), strict=True):
        if question.startswith("what shape"):
            shapes[number] = answer
        elif question.startswith("what color"):
            colours[number] = answer.replace("gray", "grey")
    paths: dict[int, str] = untyped.get_train_image_paths()
    named = [i for i in sorted(paths) if i in shapes and i in colours]
    named = [i for i in named if (colours[i], shapes[i]) not in HELD_OUT]
    return [
        FlatImage(f"{colours[i]} {shapes[i]} picture", _rgba(Path(paths[i])))
        for i in named[:_NUM_EASY_VQA]
    ]


def _rgba(path: Path) -> UInt8[Array, "side side 4"]:
    return np.asarray(Image.open(path).convert("RGBA").resize((_SIDE_PX, _SIDE_PX)))
