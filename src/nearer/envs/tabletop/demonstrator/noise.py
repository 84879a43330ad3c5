"""Motion noise of scripted demonstrators: a distribution over styles, and one style drawn from it.

None of the numbers is measured on people. They set how hard the demonstrations are to clone. A
trial (MOTION_NOISE_SIM, block2block, eight blocks, 80 steps; a small network cloned from the true
state, one seed, n = 200): success 0.41 from 250 demonstrations, 0.63 from 600, 0.87 from 2,000; the
demonstrator itself 1.00.
"""

from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]
"""Bounds of a number that is drawn uniformly, once an episode."""

_NOISE_HZ = 5
"""Control rate for which the numbers below hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionNoise:
    """How a group of demonstrators moves; steps are control steps at 5 Hz.

    Attributes:
        approach_step_m: longest step on the way to a block.
        push_step_m: longest step while pushing.
        smoothing: fraction of the last step that is kept in the next one.
        tremor: standard deviation of the noise on a step, as a fraction of the step.
        push_tolerance_m: sideways distance from the line of the push within which a push starts.
        clearance_m: distance from a block's centre at which the pusher passes by.
        approach_noise_m: standard deviation of the point that is approached, around the right one.
        pause_probability: of starting a pause, a step.
        pause_steps: longest pause.
        hesitation_probability: of a pause before a push.
        retreat_probability: of backing off from a block that is being pushed, a step.
        tempo_std: standard deviation of the tempo's logarithm, which drifts over some ten steps.
        detour_probability: of going to an unrelated point first, an episode.
        swap_probability: of bringing the second block to the first, an episode.
        anticipates_delay: whether steps allow for an action delay of one control step.
    """

    approach_step_m: Range
    push_step_m: Range
    smoothing: Range
    tremor: Range
    push_tolerance_m: Range
    clearance_m: Range
    approach_noise_m: float
    pause_probability: Range
    pause_steps: int
    hesitation_probability: float
    retreat_probability: float
    tempo_std: float
    detour_probability: float
    swap_probability: float
    anticipates_delay: bool


MOTION_NOISE_SIM = MotionNoise(
    approach_step_m=(0.024, 0.042),
    push_step_m=(0.013, 0.023),
    smoothing=(0.15, 0.35),
    tremor=(0.04, 0.14),
    push_tolerance_m=(0.008, 0.013),
    clearance_m=(0.044, 0.05),
    approach_noise_m=0.006,
    pause_probability=(0.0, 0.04),
    pause_steps=3,
    hesitation_probability=0.15,
    retreat_probability=0.008,
    tempo_std=0.2,
    detour_probability=0.12,
    swap_probability=0.05,
    anticipates_delay=False,
)

MOTION_NOISE_REAL = MotionNoise(
    approach_step_m=(0.024, 0.04),
    push_step_m=(0.014, 0.024),
    smoothing=(0.1, 0.3),
    tremor=(0.06, 0.2),
    push_tolerance_m=(0.008, 0.014),
    clearance_m=(0.046, 0.056),
    approach_noise_m=0.008,
    pause_probability=(0.01, 0.05),
    pause_steps=2,
    hesitation_probability=0.1,
    retreat_probability=0.012,
    tempo_std=0.25,
    detour_probability=0.08,
    swap_probability=0.1,
    anticipates_delay=True,
)
"""For the real appearance: slower, wider around the blocks, shakier, with more and shorter pauses,
and allowing for that appearance's delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemonstratorStyle:
    """How one demonstrator moves during one episode; drawn from a `MotionNoise`.

    Attributes:
        side_preference: in -1..1; above zero, blocks are rather passed on the right.
    """

    approach_step_m: float
    push_step_m: float
    smoothing: float
    tremor: float
    push_tolerance_m: float
    clearance_m: float
    pause_probability: float
    takes_detour: bool
    swaps_blocks: bool
    anticipates_delay: bool
    side_preference: float


def draw_style(
    noise: MotionNoise, rng: np.random.Generator, control_hz: float = _NOISE_HZ
) -> DemonstratorStyle:
    """Draw the style of one episode; steps and pauses are scaled to the control rate."""
    tempo = _NOISE_HZ / control_hz
    # the order of the draws is part of what a seed means: keep it
    return DemonstratorStyle(
        approach_step_m=tempo * rng.uniform(*noise.approach_step_m),
        push_step_m=tempo * rng.uniform(*noise.push_step_m),
        smoothing=rng.uniform(*noise.smoothing),
        tremor=rng.uniform(*noise.tremor),
        push_tolerance_m=rng.uniform(*noise.push_tolerance_m),
        clearance_m=rng.uniform(*noise.clearance_m),
        pause_probability=tempo * rng.uniform(*noise.pause_probability),
        takes_detour=bool(rng.random() < noise.detour_probability),
        swaps_blocks=bool(rng.random() < noise.swap_probability),
        anticipates_delay=noise.anticipates_delay,
        side_preference=rng.uniform(-1, 1),
    )
