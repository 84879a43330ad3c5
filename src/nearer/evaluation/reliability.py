"""How predicted steps-to-go compare with true ones: error, and coverage of the quantiles."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float32, Int64

from nearer.core.arrays import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueStepsGroup:
    """Frames of about the same true steps-to-go, in steps.

    Attributes:
        true_steps: their mean.
        predicted_mean: mean of d.
        predicted_p10: a tenth of the frames has a smaller d.
        predicted_p90: a tenth of the frames has a larger d.
    """

    true_steps: float
    predicted_mean: float
    predicted_p10: float
    predicted_p90: float
    num_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often the true steps-to-go lay below predicted quantiles.

    Attributes:
        nominal: levels of the quantiles.
        observed: fraction of frames below each; a reliable model has the nominal one.
    """

    nominal: tuple[float, ...]
    observed: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How right a model's steps-to-go are on frames whose true ones are known.

    Attributes:
        by_true_steps: frames grouped by their true steps-to-go.
    """

    num_frames: int
    mean_absolute_error_steps: float
    by_true_steps: tuple[TrueStepsGroup, ...]
    coverage: Coverage


def reliability(
    probabilities: Float32[Array, "frames bins"],
    edges: Float32[Array, "bins"],
    true_steps: Int64[Array, "frames"],
    width_steps: int,
) -> Reliability:
    """Return how predicted steps-to-go compare with true ones on held-out frames.

    Where a quantile lies within the bin of the true steps, the part of the bin's probability below
    it counts. Source: Czado, Gneiting and Held 2009, Biometrics 65, 1254-1261, section 2.1.
    """
    predicted = probabilities @ edges
    true_bin = np.minimum(true_steps // width_steps, len(edges) - 1)
    rows = np.arange(len(true_steps))
    below = np.cumsum(probabilities, axis=1)[rows, true_bin]
    here = np.maximum(probabilities[rows, true_bin], 1e-12)
    nominal = np.linspace(0.05, 0.95, 19)
    return Reliability(
        num_frames=len(true_steps),
        mean_absolute_error_steps=float(np.abs(predicted - true_steps).mean()),
        by_true_steps=_by_true_steps(predicted, true_steps),
        coverage=Coverage(
            nominal=tuple(nominal.round(2).tolist()),
            observed=tuple(
                float(np.clip((level - below + here) / here, 0, 1).mean()) for level in nominal
            ),
        ),
    )


def _by_true_steps(
    predicted: Float[Array, "frames"], true_steps: Int64[Array, "frames"]
) -> tuple[TrueStepsGroup, ...]:
    edges = [0, 1, 2, 3, 5, 8, *range(10, int(true_steps.max()) + 11, 10)]
    groups: list[TrueStepsGroup] = []
    for low, high in pairwise(edges):
        inside = (true_steps >= low) & (true_steps < high)
        if inside.sum() < 10:
            continue
        values = predicted[inside]
        p10, p90 = np.quantile(values, [0.1, 0.9])
        groups.append(
            TrueStepsGroup(
                true_steps=float(true_steps[inside].mean()),
                predicted_mean=float(values.mean()),
                predicted_p10=float(p10),
                predicted_p90=float(p90),
                num_frames=int(inside.sum()),
            )
        )
    return tuple(groups)
