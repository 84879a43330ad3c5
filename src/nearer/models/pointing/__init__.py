"""The built-in vision-language model: it points at what a sentence mentions."""

from nearer.models.pointing.tower import PointingTower
from nearer.models.pointing.weights import load_pointing

__all__ = ["PointingTower", "load_pointing"]
