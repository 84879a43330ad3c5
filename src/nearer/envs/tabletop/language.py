"""The grammar of the tabletop's instructions: their families, and their wordings.

A wording is a template whose slots hold names: "push the {} next to the {}", "red moon", "star".
The templates are LanguageTable's (its public simulator, language_table/environments/rewards: verbs,
prepositions, nine places, eight sides, pointing and separating). Ours are the synonyms for moon and
cube, "near", and the templates of the banana (Ghasemipour et al. 2025, arXiv:2509.15155). A colour
alone ("red block") or a shape alone ("star") is a name where it fits one block only.

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

SYNONYM_PROBABILITY = 0.2
"""Probability that a shape with a synonym is named by it."""


class InstructionFamily(StrEnum):
    """The kinds of instruction."""

    BLOCK_TO_BLOCK = "block2block"
    BLOCK_TO_PLACE = "block2place"
    BLOCK_TO_RELATIVE = "block2relative"
    POINT = "point"
    SEPARATE = "separate"
    BANANA = "banana"


@dataclass(frozen=True, slots=True)
class TabletopTask:
    """The meaning of an instruction.

    Attributes:
        blocks: the block to move (or to point to), then the one it is brought to or away from.
        place: one of PLACES (BLOCK_TO_PLACE, BANANA), one of SIDES (BLOCK_TO_RELATIVE), or None.
    """

    family: InstructionFamily
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
"""Nine places of the board, and their phrases."""

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
"""Eight sides of a block, and their phrases."""

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


def _block_templates() -> Iterator[tuple[InstructionFamily, str | None, str]]:
    for verb in _VERBS:
        for preposition in ("to", "towards", "close to", "next to"):
            yield InstructionFamily.BLOCK_TO_BLOCK, None, f"{verb} the {{}} {preposition} the {{}}"
        for place, phrases in PLACES.items():
            for phrase in phrases:
                yield InstructionFamily.BLOCK_TO_PLACE, place, f"{verb} the {{}} {phrase}"
        for side, phrases in SIDES.items():
            for phrase in phrases:
                yield InstructionFamily.BLOCK_TO_RELATIVE, side, f"{verb} the {{}} {phrase} {{}}"
    for template in ("pull the {} apart from the {}", "separate the {} from the {}"):
        yield InstructionFamily.SEPARATE, None, template
    yield InstructionFamily.SEPARATE, None, "move the {} away from the {}"


def _other_templates() -> Iterator[tuple[InstructionFamily, str | None, str]]:
    yield InstructionFamily.POINT, None, "point at the {}"
    for start in ("point", "move the arm", "move your arm", "move"):
        for preposition in ("to", "close to", "next to", "near"):
            yield InstructionFamily.POINT, None, f"{start} {preposition} the {{}}"
    for verb, place in itertools.product(_VERBS, PLACES):
        for suffix in _TABLE_SUFFIXES.get(place, ("", " corner")):
            yield (
                InstructionFamily.BANANA,
                place,
                f"{verb} the {{}} to the {place}{suffix} of the table",
            )
        if place == "center":
            yield InstructionFamily.BANANA, place, f"{verb} the {{}} to the middle of the table"


_MEANINGS = {
    template: (family, place)
    for family, place, template in (*_block_templates(), *_other_templates())
}
_TEMPLATES: dict[tuple[InstructionFamily, str | None], tuple[str, ...]] = {
    meaning: tuple(template for template, m in _MEANINGS.items() if m == meaning)
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


def wordings(task: TabletopTask, on_board: Sequence[Block]) -> Iterator[str]:
    """Yield all wordings of a task."""
    for template in _TEMPLATES[task.family, task.place]:
        for block_names in itertools.product(*(names(block, on_board) for block in task.blocks)):
            yield template.format(*block_names)


def compose(task: TabletopTask, on_board: Sequence[Block], rng: np.random.Generator) -> str:
    """Draw one wording of a task; a shape is named by its synonym with SYNONYM_PROBABILITY.

    Raises:
        EnvError: the task names a block that is not on the board.
    """
    for block in task.blocks:
        if block not in on_board:
            raise EnvError(
                f"the blocks of a task must lie on the board, got {block}; {_list_blocks(on_board)}"
            )
    block_names = [_draw_name(block, on_board, rng) for block in task.blocks]
    templates = _TEMPLATES[task.family, task.place]
    return templates[rng.integers(len(templates))].format(*block_names)


def _draw_name(block: Block, on_board: Sequence[Block], rng: np.random.Generator) -> str:
    words = _SHAPE_WORDS[block.shape]
    word = words[-1] if rng.random() < SYNONYM_PROBABILITY else words[0]
    fitting = _names(block, word, on_board)
    return fitting[rng.integers(len(fitting))]


def parse(instruction: str, on_board: Sequence[Block]) -> TabletopTask:
    """Return the task of an instruction on this board: the inverse of `compose`.

    Raises:
        EnvError: the instruction is outside the grammar, or a name fits no block, or several.
    """
    sentence = " ".join(instruction.lower().split()).rstrip(".!")
    template = _NAME.sub("{}", sentence)
    if template not in _MEANINGS:
        raise EnvError(_grammar_sentence(instruction, on_board))
    family, place = _MEANINGS[template]
    blocks = tuple(_resolve(match, instruction, on_board) for match in _NAME.finditer(sentence))
    if len(set(blocks)) < len(blocks):
        raise EnvError(
            f"an instruction must name two different blocks, got {instruction!r}, "
            f"which names the {blocks[0]} twice; {_list_blocks(on_board)}"
        )
    if (family is InstructionFamily.BANANA) != (BANANA in blocks):
        raise EnvError(_grammar_sentence(instruction, on_board))
    return TabletopTask(family, blocks, place)


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
    problem = "fits several" if fitting else "is not on the board"
    raise EnvError(
        f"each name in an instruction must fit one block on the board, got {instruction!r}, "
        f"where {name.group()!r} {problem}; {_list_blocks(on_board)}"
    )


def _list_blocks(on_board: Sequence[Block]) -> str:
    return "on the board: " + ", ".join(map(str, on_board))


def _grammar_sentence(instruction: str, on_board: Sequence[Block]) -> str:
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
    templates = {word for template in _MEANINGS for word in template.split() if word != "{}"}
    return tuple(sorted(templates | {*_COLOURS, *_SHAPES, _ANY_SHAPE}))
