"""What a person may ask for on the tabletop: families of instructions, and their wordings.

A wording is a frame whose gaps hold names: "push the {} next to the {}", "red moon", "star". The
frames are LanguageTable's (its public simulator, language_table/environments/rewards: verbs,
prepositions, nine places, eight sides, pointing and separating). Ours are the second words for
moon and cube, "near", and the frames of the banana (Ghasemipour et al. 2025, arXiv:2509.15155).
A colour alone ("red block") or a shape alone ("star") is a name where it fits one block only.

The camera faces the robot: the top of the board is at the robot's base, left is negative y.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from nearer.core.errors import EnvError
from nearer.envs.tabletop.layout import BANANA, BLOCKS, Block

SYNONYM_SHARE = 0.2
"""How often a shape with a second word is called by it."""


class Family(StrEnum):
    """The kinds of instruction."""

    BLOCK_TO_BLOCK = "block2block"
    BLOCK_TO_PLACE = "block2place"
    BLOCK_TO_RELATIVE = "block2relative"
    POINT = "point"
    SEPARATE = "separate"
    BANANA = "banana"


@dataclass(frozen=True, slots=True)
class Task:
    """What an instruction means.

    Attributes:
        blocks: the block to move (or to point to), then the one it is brought to or away from.
        place: one of PLACES (BLOCK_TO_PLACE, BANANA), one of SIDES (BLOCK_TO_RELATIVE), or None.
    """

    family: Family
    blocks: tuple[Block, ...]
    place: str | None = None


PLACES: Mapping[str, tuple[str, ...]] = {
    "top": ("to the top side", "to the top", "towards your base"),
    "top left": (
        "to the top left of the board",
        "to the top left",
        "to the upper left corner",
        "to the top left corner",
    ),
    "top right": (
        "to the top right of the board",
        "to the top right",
        "to the upper right corner",
        "to the top right corner",
    ),
    "center": (
        "to the middle of the board",
        "to the center of the board",
        "to the center",
        "to the middle",
    ),
    "left": ("to the left side of the board", "to the center left", "to the left side"),
    "right": ("to the right side of the board", "to the center right", "to the right side"),
    "bottom": ("to the bottom side", "to the bottom"),
    "bottom left": (
        "to the bottom left of the board",
        "to the bottom left",
        "to the lower left corner",
        "to the bottom left corner",
    ),
    "bottom right": (
        "to the bottom right of the board",
        "to the bottom right",
        "to the lower right corner",
        "to the bottom right corner",
    ),
}
"""Nine places of the board, and how they are called."""

SIDES: Mapping[str, tuple[str, ...]] = {
    "above": ("above the", "to the top side of the", "to the top of the"),
    "below": ("below the", "to the bottom side of the", "to the bottom of the"),
    "left": ("just left of the", "to the left of the", "left of the", "to the left side of the"),
    "right": (
        "just right of the",
        "to the right of the",
        "right of the",
        "to the right side of the",
    ),
    "above left": (
        "to the top left side of the",
        "to the top left of the",
        "diagonally up and to the left of the",
    ),
    "above right": (
        "to the top right side of the",
        "to the top right of the",
        "diagonally up and to the right of the",
    ),
    "below left": (
        "to the bottom left side of the",
        "to the bottom left of the",
        "diagonally down and to the left of the",
    ),
    "below right": (
        "to the bottom right side of the",
        "to the bottom right of the",
        "diagonally down and to the right of the",
    ),
}
"""Eight sides of a block, and how they are called."""

_VERBS = ("push", "move", "slide", "put")
_TABLE_SUFFIXES = {"center": ("",), "top": ("", " side"), "bottom": ("", " side")} | {
    "left": ("", " side"),
    "right": ("", " side"),
}
_SHAPE_WORDS: Mapping[str, tuple[str, ...]] = {
    "moon": ("moon", "crescent"),
    "cube": ("cube", "box"),
    "star": ("star",),
    "pentagon": ("pentagon",),
    "banana": ("banana",),
}
_ANY_SHAPE = "block"
_SHAPES = {word: shape for shape, words in _SHAPE_WORDS.items() for word in words}
_COLOURS = tuple(dict.fromkeys(block.colour for block in BLOCKS))
_NAME = re.compile(rf"\b(?:({'|'.join(_COLOURS)}) )?({'|'.join([*_SHAPES, _ANY_SHAPE])})\b")


def _block_frames() -> Iterator[tuple[Family, str | None, str]]:
    for verb in _VERBS:
        for preposition in ("to", "towards", "close to", "next to"):
            yield Family.BLOCK_TO_BLOCK, None, f"{verb} the {{}} {preposition} the {{}}"
        for place, phrases in PLACES.items():
            for phrase in phrases:
                yield Family.BLOCK_TO_PLACE, place, f"{verb} the {{}} {phrase}"
        for side, phrases in SIDES.items():
            for phrase in phrases:
                yield Family.BLOCK_TO_RELATIVE, side, f"{verb} the {{}} {phrase} {{}}"
    for frame in ("pull the {} apart from the {}", "separate the {} from the {}"):
        yield Family.SEPARATE, None, frame
    yield Family.SEPARATE, None, "move the {} away from the {}"


def _other_frames() -> Iterator[tuple[Family, str | None, str]]:
    yield Family.POINT, None, "point at the {}"
    for start in ("point", "move the arm", "move your arm", "move"):
        for preposition in ("to", "close to", "next to", "near"):
            yield Family.POINT, None, f"{start} {preposition} the {{}}"
    for verb, place in itertools.product(_VERBS, PLACES):
        for suffix in _TABLE_SUFFIXES.get(place, ("", " corner")):
            yield Family.BANANA, place, f"{verb} the {{}} to the {place}{suffix} of the table"
        if place == "center":
            yield Family.BANANA, place, f"{verb} the {{}} to the middle of the table"


_MEANINGS = {
    frame: (family, place) for family, place, frame in (*_block_frames(), *_other_frames())
}
_FRAMES: dict[tuple[Family, str | None], tuple[str, ...]] = {
    meaning: tuple(frame for frame, m in _MEANINGS.items() if m == meaning)
    for meaning in dict.fromkeys(_MEANINGS.values())
}


def _names(block: Block, word: str, on_board: Sequence[Block]) -> tuple[str, ...]:
    """Return the names with one word for the shape that fit no other block on the board."""
    if block == BANANA:
        return (word,)
    num_of_colour = sum(other.colour == block.colour and other != BANANA for other in on_board)
    num_of_shape = sum(other.shape == block.shape for other in on_board)
    return (
        f"{block.colour} {word}",
        *((word,) if num_of_shape == 1 else ()),
        *((f"{block.colour} {_ANY_SHAPE}",) if num_of_colour == 1 else ()),
    )


def names(block: Block, on_board: Sequence[Block]) -> tuple[str, ...]:
    """Return all names of a block that fit no other block on the board."""
    words = _SHAPE_WORDS[block.shape]
    return tuple(dict.fromkeys(name for word in words for name in _names(block, word, on_board)))


def wordings(task: Task, on_board: Sequence[Block]) -> Iterator[str]:
    """Go through all wordings of a task."""
    for frame in _FRAMES[task.family, task.place]:
        for called in itertools.product(*(names(block, on_board) for block in task.blocks)):
            yield frame.format(*called)


def compose(task: Task, on_board: Sequence[Block], rng: np.random.Generator) -> str:
    """Draw one wording of a task. Second words for a shape come with SYNONYM_SHARE.

    Raises:
        EnvError: the task names a block that is not on the board.
    """
    for block in task.blocks:
        if block not in on_board:
            raise EnvError(
                f"the blocks of a task must lie on the board, got {block}; {_lying(on_board)}"
            )
    called = [_draw_name(block, on_board, rng) for block in task.blocks]
    frames = _FRAMES[task.family, task.place]
    return frames[rng.integers(len(frames))].format(*called)


def _draw_name(block: Block, on_board: Sequence[Block], rng: np.random.Generator) -> str:
    words = _SHAPE_WORDS[block.shape]
    word = words[-1] if rng.random() < SYNONYM_SHARE else words[0]
    fitting = _names(block, word, on_board)
    return fitting[rng.integers(len(fitting))]


def parse(instruction: str, on_board: Sequence[Block]) -> Task:
    """Return what an instruction means on this board: the inverse of `compose`.

    Raises:
        EnvError: no wording of the grammar, or a name that fits no block, or several.
    """
    sentence = " ".join(instruction.lower().split()).rstrip(".!")
    frame = _NAME.sub("{}", sentence)
    if frame not in _MEANINGS:
        raise EnvError(_outside(instruction, on_board))
    family, place = _MEANINGS[frame]
    blocks = tuple(_resolve(match, instruction, on_board) for match in _NAME.finditer(sentence))
    if len(set(blocks)) < len(blocks):
        raise EnvError(
            f"an instruction must name two different blocks, got {instruction!r}, "
            f"which names the {blocks[0]} twice; {_lying(on_board)}"
        )
    if (family is Family.BANANA) != (BANANA in blocks):
        raise EnvError(_outside(instruction, on_board))
    return Task(family, blocks, place)


def _resolve(name: re.Match[str], instruction: str, on_board: Sequence[Block]) -> Block:
    """Return the one block on the board that a name fits."""
    colour, word = name.groups()
    shape = _SHAPES.get(word)
    fitting = [
        block
        for block in on_board
        if colour in (None, block.colour)
        and shape in (None, block.shape)
        and not (shape is None and block == BANANA)
    ]
    if len(fitting) == 1:
        return fitting[0]
    fault = "fits several" if fitting else "is not on the board"
    raise EnvError(
        f"each name in an instruction must fit one block on the board, got {instruction!r}, "
        f"where {name.group()!r} {fault}; {_lying(on_board)}"
    )


def _lying(on_board: Sequence[Block]) -> str:
    return "on the board: " + ", ".join(map(str, on_board))


def _outside(instruction: str, on_board: Sequence[Block]) -> str:
    if BANANA in on_board:
        allowed, example = (
            "push, move, slide or put the banana to a place of the table",
            "left side",
        )
        return (
            f"instruction must {allowed}, got {instruction!r}; "
            f"try 'push the banana to the {example} of the table'"
        )
    example = " next to the ".join(map(str, on_board[:2]))
    return (
        "instruction must push, move, slide or put a block to another block, to a place of the "
        "board or to one side of another block, point to a block, or separate two blocks, "
        f"got {instruction!r}; try 'push the {example}'"
    )


def vocabulary() -> tuple[str, ...]:
    """Return all words of all wordings, sorted."""
    frames = {word for frame in _MEANINGS for word in frame.split() if word != "{}"}
    return tuple(sorted(frames | {*_COLOURS, *_SHAPES, _ANY_SHAPE}))
