"""How people move: the habits of a group of demonstrators, and one person drawn from it.

None of the numbers is measured on people. They are a dial: the more of it, the more demonstrations
a clone needs. A trial (HABITS_SIM, block2block, eight blocks, 80 steps; a small network cloned from
the true state, one seed, n = 200): 0.41 from 250 demonstrations, 0.63 from 600, 0.87 from 2,000;
the demonstrator 1.00.
"""

from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]
"""Least and most of a number that is drawn evenly, once a person."""

_HABITS_HZ = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How a group of people moves, a step being a fifth of a second.

    Attributes:
        reach_m: longest step towards a block.
        push_m: longest step while pushing one.
        inertia: share of the last step that is kept in the next.
        tremor: size of the noise on a step, as a share of the step.
        care_m: how far beside the right spot behind a block a person starts to push.
        clearance_m: how far from a block's centre the pusher's passes by.
        slip_m: standard deviation of the spot that a person goes to, around the right one.
        pause_probability: of stopping, a step.
        pause_steps: how long at most.
        hesitation_probability: of a stop before a push.
        retreat_probability: of backing off from a block that is being pushed, a step.
        moodiness: standard deviation of the tempo's logarithm, which drifts over some ten steps.
        detour_probability: of going somewhere else first, an episode.
        swap_probability: of bringing the second block to the first, an episode.
        anticipates: whether they are used to a robot that is one control step late.
    """

    reach_m: Range
    push_m: Range
    inertia: Range
    tremor: Range
    care_m: Range
    clearance_m: Range
    slip_m: float
    pause_probability: Range
    pause_steps: int
    hesitation_probability: float
    retreat_probability: float
    moodiness: float
    detour_probability: float
    swap_probability: float
    anticipates: bool


HABITS_SIM = Habits(
    reach_m=(0.024, 0.042),
    push_m=(0.013, 0.023),
    inertia=(0.15, 0.35),
    tremor=(0.04, 0.14),
    care_m=(0.008, 0.013),
    clearance_m=(0.044, 0.05),
    slip_m=0.006,
    pause_probability=(0.0, 0.04),
    pause_steps=3,
    hesitation_probability=0.15,
    retreat_probability=0.008,
    moodiness=0.2,
    detour_probability=0.12,
    swap_probability=0.05,
    anticipates=False,
)

HABITS_REAL = Habits(
    reach_m=(0.024, 0.04),
    push_m=(0.014, 0.024),
    inertia=(0.1, 0.3),
    tremor=(0.06, 0.2),
    care_m=(0.008, 0.014),
    clearance_m=(0.046, 0.056),
    slip_m=0.008,
    pause_probability=(0.01, 0.05),
    pause_steps=2,
    hesitation_probability=0.1,
    retreat_probability=0.012,
    moodiness=0.25,
    detour_probability=0.08,
    swap_probability=0.1,
    anticipates=True,
)
"""Slower, wider around the blocks, shakier, with more and shorter stops; used to the delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who moves the pusher in one episode; most attributes are those of Habits, drawn.

    Attributes:
        handedness: in -1..1; above zero it is rather the right side that a block is passed on.
    """

    reach_m: float
    push_m: float
    inertia: float
    tremor: float
    care_m: float
    clearance_m: float
    pause_probability: float
    detours: bool
    swaps: bool
    anticipates: bool
    handedness: float


def draw_person(habits: Habits, rng: np.random.Generator, control_hz: float = _HABITS_HZ) -> Person:
    """Draw one person out of a group; at another control rate the steps are shorter or longer."""
    tempo = _HABITS_HZ / control_hz
    return Person(
        reach_m=tempo * rng.uniform(*habits.reach_m),
        push_m=tempo * rng.uniform(*habits.push_m),
        inertia=rng.uniform(*habits.inertia),
        tremor=rng.uniform(*habits.tremor),
        care_m=rng.uniform(*habits.care_m),
        clearance_m=rng.uniform(*habits.clearance_m),
        pause_probability=tempo * rng.uniform(*habits.pause_probability),
        detours=bool(rng.random() < habits.detour_probability),
        swaps=bool(rng.random() < habits.swap_probability),
        anticipates=habits.anticipates,
        handedness=rng.uniform(-1, 1),
    )
