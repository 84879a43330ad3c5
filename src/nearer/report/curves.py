"""Figures over training: learning curves of Stage 2, audits, losses of Stage 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import batched

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from nearer.audit import Audit
from nearer.intervals import Rate
from nearer.report.draw import FRAME, INK, STAGE_1, STAGE_2, label_axes
from nearer.report.read import StageOne, StageTwo
from nearer.shapes import Array

AUDIT_WINDOW = 3
_MOST_BLOCKS = 40  # points of a curve over practice; more hide the trend


@dataclass(frozen=True, slots=True, kw_only=True)
class RateOverPractice:
    """A rate, pooled over windows of practice.

    Attributes:
        episodes: practised up to the middle of each window.
        rates: one a window.
    """

    episodes: tuple[float, ...]
    rates: tuple[Rate, ...]
