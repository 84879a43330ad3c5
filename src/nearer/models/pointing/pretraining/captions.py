"""Sentences about a scene, and which objects they mention in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nearer.models.pointing.vocabulary import (
    ANYTHING_WORDS,
    COLOUR_WORDS,
    POLE_WORDS,
    SHAPE_WORDS,
    Name,
)

REGIONS = {
    "top left": (0, 0),
    "top": (0, 1),
    "top right": (0, 2),
    "left": (1, 0),
    "center": (1, 1),
    "right": (1, 2),
    "bottom left": (2, 0),
    "bottom": (2, 1),
    "bottom right": (2, 2),
}
"""Row, from the far side, and column of nine regions of a board."""

_ONE_OBJECT = (
    "{0}",
    "{0}",
    "{0}",
    "look at {0}",
    "point at {0}",
    "point to {0}",
    "find {0}",
    "where is {0}",
    "here is {0}",
    "a picture of {0}",
    "touch {0}",
    "go to {0}",
    "move to {0}",
    "move next to {0}",
    "move your arm to {0}",
    "move the arm near {0}",
    "move the arm next to {0}",
    "point close to {0}",
    "the robot should reach {0}",
    "there is {0} on the table",
)
_TWO_OBJECTS = (
    "{0} and {1}",
    "{0} is left of {1}",
    "{0} is right of {1}",
    "{0} lies behind {1}",
    "{0} lies in front of {1}",
    "{0} is near {1}",
    "{0} next to {1}",
    "not {0} but {1}",
    "bring {0} to {1}",
    "bring {0} near {1}",
    "push {0} to {1}",
    "push {0} towards {1}",
    "push {0} next to {1}",
    "move {0} close to {1}",
    "move {0} to {1}",
    "slide {0} towards {1}",
    "slide {0} to {1}",
    "put {0} next to {1}",
    "put {0} close to {1}",
    "nudge {0} over to {1}",
    "push {0} above {1}",
    "push {0} below {1}",
    "move {0} to the left of {1}",
    "move {0} just right of {1}",
    "slide {0} to the right side of {1}",
    "put {0} to the left side of {1}",
    "put {0} to the top of {1}",
    "move {0} to the bottom of {1}",
    "push {0} to the top side of {1}",
    "push {0} to the bottom side of {1}",
    "put {0} to the top left of {1}",
    "move {0} to the top right side of {1}",
    "slide {0} to the bottom left side of {1}",
    "push {0} to the bottom right of {1}",
    "move {0} diagonally up and to the left of {1}",
    "put {0} diagonally down and to the right of {1}",
    "separate {0} from {1}",
    "pull {0} apart from {1}",
    "move {0} away from {1}",
    "take {0} away from {1}",
)
_REGION_TEMPLATES = (
    "push {0} to the {1} of the board",
    "move {0} to the {1} of the table",
    "slide {0} to the {1}",
    "put {0} to the {1} side",
    "put {0} to the {1} side of the board",
    "slide {0} to the {1} corner",
    "move {0} to the {1} corner of the table",
    "bring {0} to the {1} edge of the table",
)
_REGION_WORDS = {
    "center": ("center", "middle"),
    "top left": ("top left", "upper left"),
    "top right": ("top right", "upper right"),
    "bottom left": ("bottom left", "lower left"),
    "bottom right": ("bottom right", "lower right"),
    "left": ("left", "center left"),
    "right": ("right", "center right"),
}
_ARTICLES = ("the", "the", "the", "a", "")
_FLAT_IMAGE_ARTICLES = ("the", "a", "")

POLE = -1
"""Stands for the pole where the number of an object is expected."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and the targets of its two slots.

    Attributes:
        first: numbers of the objects that its first mention fits; POLE is the pole.
        second: those of its second mention; the same as the first where there is none.
        region: row and column of the region that is mentioned second, or None.
    """

    text: str
    first: tuple[int, ...]
    second: tuple[int, ...]
    region: tuple[int, int] | None = None


def words_of_the_corpus(extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Return all words that sentences may have, sorted."""
    templates = " ".join((*_ONE_OBJECT, *_TWO_OBJECTS, *_REGION_TEMPLATES, *_ARTICLES))
    sources = (COLOUR_WORDS.values(), SHAPE_WORDS.values(), _REGION_WORDS.values())
    named = [phrase for source in sources for phrases in source for phrase in phrases]
    phrases = " ".join([templates.replace("{0}", "").replace("{1}", ""), *named, *REGIONS])
    return tuple(sorted({*phrases.split(), *ANYTHING_WORDS, *POLE_WORDS, *extra}))


def draw_sentence(
    rng: np.random.Generator, names: Sequence[Name], has_pole: bool, two: bool = False
) -> Sentence:
    """Draw a sentence about objects with these names.

    Args:
        rng: of every choice.
        names: colour and shape of each object that may be mentioned; an empty colour marks a
            flat image, whose name is then the shape.
        has_pole: whether the scene has a pole to be mentioned.
        two: mention two objects.
    """
    kind = rng.random()
    first = _mention(rng, names, has_pole)
    if two or kind < 0.55:
        second = _mention(rng, names, has_pole)
        text = str(_TWO_OBJECTS[int(rng.integers(len(_TWO_OBJECTS)))]).format(first[0], second[0])
        return Sentence(text, first[1], second[1])
    if kind < 0.75:
        region = list(REGIONS)[int(rng.integers(len(REGIONS)))]
        words = _REGION_WORDS.get(region, (region,))
        template = _REGION_TEMPLATES[int(rng.integers(len(_REGION_TEMPLATES)))]
        text = template.format(first[0], words[int(rng.integers(len(words)))])
        return Sentence(text, first[1], (), REGIONS[region])
    text = _ONE_OBJECT[int(rng.integers(len(_ONE_OBJECT)))].format(first[0])
    return Sentence(text, first[1], first[1])


def _mention(
    rng: np.random.Generator, names: Sequence[Name], has_pole: bool
) -> tuple[str, tuple[int, ...]]:
    """Return a phrase and the numbers of the objects that it fits."""
    if not names or (has_pole and rng.random() < 0.08):
        word = POLE_WORDS[int(rng.integers(len(POLE_WORDS)))]
        return f"the {word}", (POLE,) if has_pole else ()
    colour, shape = names[int(rng.integers(len(names)))]
    if not colour:
        article = _FLAT_IMAGE_ARTICLES[int(rng.integers(len(_FLAT_IMAGE_ARTICLES)))]
        fitting = tuple(i for i, name in enumerate(names) if name == (colour, shape))
        return f"{article} {shape}".strip(), fitting
    article = _ARTICLES[int(rng.integers(len(_ARTICLES)))]
    kind = rng.random()
    colours, shapes = COLOUR_WORDS[colour], SHAPE_WORDS[shape]
    colour_word = colours[int(rng.integers(len(colours)))]
    shape_word = shapes[0] if rng.random() < 0.6 else shapes[int(rng.integers(len(shapes)))]
    if kind < 0.7:
        phrase, constraint = f"{colour_word} {shape_word}", (colour, shape)
    elif kind < 0.85:
        phrase, constraint = shape_word, (None, shape)
    else:
        anything = ANYTHING_WORDS[int(rng.integers(len(ANYTHING_WORDS)))]
        phrase, constraint = f"{colour_word} {anything}", (colour, None)
    return f"{article} {phrase}".strip(), _fitting(names, *constraint)


def _fitting(names: Sequence[Name], colour: str | None, shape: str | None) -> tuple[int, ...]:
    """Return the numbers of the objects, flat images apart, of this colour and shape if given."""
    return tuple(
        i
        for i, name in enumerate(names)
        if name[0] and colour in (None, name[0]) and shape in (None, name[1])
    )
