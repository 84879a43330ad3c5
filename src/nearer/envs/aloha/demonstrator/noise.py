"""Human-like variety: how a demonstrator moves during one episode, and how its moves scatter.

None of the numbers is measured on people. Standard deviations are those of normal distributions
that are cut off at two of them: rarer moves end in failures that no person would show.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nearer.core.arrays import Array

_CUT_OFF = 2.0  # standard deviations
_TREMOR_KEPT = 0.9
"""Fraction of the tremor that is left after a control step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionNoise:
    """How moves scatter; `_std` are standard deviations.

    Attributes:
        tempo_std: of the logarithm of an episode's tempo.
        duration_std: of the logarithm of a move's duration.
        bow_std: how far a path bends sideways, as a fraction of its length.
        waypoint_std_m: of points in free air, along each axis.
        grasp_std_m: of where an object is grasped, along its length, across it and in height.
        meeting_std_m: of where the two hands meet, x, y, z.
        lateral_std_m: of how far off its axis an insertion begins, in y and z.
        pitch_std_rad: of how steeply a gripper points down.
        reaction_s: longest wait before an arm starts.
        pause_probability: of a pause between two moves.
        pause_mean_s, pause_max_s: of its length, which is exponential.
        miss_probability: of closing the fingers above the object at the first attempt.
        tremor_std_m: of the tool's position; it changes over some ten control steps.
    """

    tempo_std: float = 0.1
    duration_std: float = 0.15
    bow_std: float = 0.06
    waypoint_std_m: float = 0.012
    grasp_std_m: tuple[float, float, float] = (0.006, 0.0015, 0.0015)
    meeting_std_m: tuple[float, float, float] = (0.02, 0.02, 0.02)
    lateral_std_m: float = 0.003
    pitch_std_rad: float = math.radians(6)
    reaction_s: float = 0.4
    pause_probability: float = 0.3
    pause_mean_s: float = 0.2
    pause_max_s: float = 0.6
    miss_probability: float = 0.04
    tremor_std_m: float = 0.0004


HUMAN_LIKE = MotionNoise()
NO_NOISE = MotionNoise(
    tempo_std=0.0,
    duration_std=0.0,
    bow_std=0.0,
    waypoint_std_m=0.0,
    grasp_std_m=(0.0, 0.0, 0.0),
    meeting_std_m=(0.0, 0.0, 0.0),
    lateral_std_m=0.0,
    pitch_std_rad=0.0,
    reaction_s=0.0,
    pause_probability=0.0,
    miss_probability=0.0,
    tremor_std_m=0.0,
)


class Variety:
    """Draws from a `MotionNoise`: one demonstrator during one episode."""

    def __init__(self, noise: MotionNoise, rng: np.random.Generator) -> None:
        self._noise, self._rng = noise, rng
        self._tempo = math.exp(self._normal(noise.tempo_std))

    def duration_s(self, usual_s: float) -> float:
        """Draw how long a move takes that usually takes so long."""
        return usual_s / self._tempo * math.exp(self._normal(self._noise.duration_std))

    def bow_m(self, length_m: float) -> Float64[Array, "3"]:
        """Draw how far the middle of a path of this length is off the straight line, x, y, z."""
        bow = length_m * self._normals(self._noise.bow_std, 3)
        bow[2] = abs(bow[2])  # never down towards the table
        return bow

    def waypoint_m(self) -> Float64[Array, "3"]:
        """Draw how far a point in free air is off, x, y, z."""
        return self._normals(self._noise.waypoint_std_m, 3)

    def grasp_m(self) -> Float64[Array, "3"]:
        """Draw how far a grasp is off: along the object, across it, in height."""
        return np.array([self._normal(std) for std in self._noise.grasp_std_m])

    def meeting_m(self) -> Float64[Array, "3"]:
        """Draw how far the point where the hands meet is off, x, y, z."""
        return np.array([self._normal(std) for std in self._noise.meeting_std_m])

    def lateral_m(self) -> Float64[Array, "2"]:
        """Draw how far off its axis an insertion begins, y and z."""
        return self._normals(self._noise.lateral_std_m, 2)

    def pitch_rad(self) -> float:
        """Draw how much more steeply than usual a gripper points down."""
        return self._normal(self._noise.pitch_std_rad)

    def reaction_s(self) -> float:
        """Draw how long an arm waits before it starts."""
        return float(self._rng.uniform(0, self._noise.reaction_s))

    def pause_s(self) -> float:
        """Draw how long an arm pauses between two moves; mostly not at all."""
        if self._rng.random() >= self._noise.pause_probability:
            return 0.0
        drawn_s = float(self._rng.exponential(self._noise.pause_mean_s))
        return min(drawn_s, self._noise.pause_max_s)

    def misses(self) -> bool:
        """Draw whether a first attempt to grasp goes wrong."""
        return bool(self._rng.random() < self._noise.miss_probability)

    def tremor_m(self, last_m: Float64[Array, "3"]) -> Float64[Array, "3"]:
        """Draw the tremor that follows the last one: autoregressive, of constant variance."""
        fresh_m = self._normals(self._noise.tremor_std_m, 3)
        return _TREMOR_KEPT * last_m + math.sqrt(1 - _TREMOR_KEPT**2) * fresh_m

    def _normal(self, std: float) -> float:
        return float(self._normals(std, 1)[0])

    def _normals(self, std: float, count: int) -> Float64[Array, "n"]:
        return std * np.clip(self._rng.normal(size=count), -_CUT_OFF, _CUT_OFF)
