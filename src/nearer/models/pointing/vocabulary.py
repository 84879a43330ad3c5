"""Names of the objects in pretraining: colours, shapes, and the pairs that are held out."""

from collections.abc import Mapping

Name = tuple[str, str]
"""A colour and a shape."""

COLOURS: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "red": ((-0.03, 0.75, 0.6), (0.025, 1.0, 0.95)),
    "orange": ((0.055, 0.8, 0.85), (0.095, 1.0, 1.0)),
    "brown": ((0.04, 0.5, 0.28), (0.085, 0.8, 0.48)),
    "yellow": ((0.13, 0.7, 0.8), (0.17, 1.0, 1.0)),
    "green": ((0.28, 0.5, 0.35), (0.42, 1.0, 0.85)),
    "cyan": ((0.48, 0.55, 0.75), (0.53, 1.0, 1.0)),
    "blue": ((0.57, 0.6, 0.5), (0.67, 1.0, 1.0)),
    "purple": ((0.74, 0.5, 0.4), (0.81, 0.9, 0.75)),
    "pink": ((0.87, 0.3, 0.85), (0.95, 0.65, 1.0)),
    "white": ((0.0, 0.0, 0.88), (1.0, 0.06, 1.0)),
    "grey": ((0.0, 0.0, 0.4), (1.0, 0.08, 0.62)),
    "black": ((0.0, 0.0, 0.03), (1.0, 0.3, 0.16)),
}
"""Each named colour's range of hue, saturation and value, all in [0, 1]; hue wraps round."""

COLOUR_WORDS: Mapping[str, tuple[str, ...]] = {colour: (colour,) for colour in COLOURS} | {
    "grey": ("grey", "gray"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
}

SHAPE_WORDS: Mapping[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "round block"),
    "square": ("cube", "square", "box"),
    "pentagon": ("pentagon",),
    "hexagon": ("hexagon",),
    "triangle": ("triangle",),
    "star": ("star",),
    "moon": ("moon", "crescent"),
    "heart": ("heart",),
    "cross": ("cross", "plus"),
    "ring": ("ring",),
    "arrow": ("arrow",),
    "half disc": ("half disc", "semicircle"),
    "tee": ("tee",),
    "diamond": ("diamond", "rhombus"),
    "banana": ("banana",),
}
"""Words for each shape; the keys are the names used in the code."""

POLE_WORDS = ("pole", "stick", "rod")
ANYTHING_WORDS = ("block", "one", "thing", "object", "piece")

HELD_OUT = frozenset(
    (
        ("blue", "moon"),
        ("yellow", "star"),
        ("purple", "heart"),
        ("orange", "hexagon"),
        ("pink", "arrow"),
        ("green", "ring"),
        ("brown", "cross"),
        ("cyan", "triangle"),
        ("red", "circle"),
        ("white", "tee"),
    )
)
"""Colour-shape pairs that no training image shows, to measure compositional generalisation."""
