"""A scripted demonstrator that solves every instruction: the source of demonstrations.

For each robot: go behind the block, push it, correct sideways drift, and go behind it again when it
slid away. Where to go depends on the present layout alone, so it can be cloned from images; the
motion noise on top (tempo, tolerance, tremor, pauses, detours, imprecise approaches) does not,
which leaves a cloned policy with something to improve. The demonstrator reads the simulator's
ground truth; its episodes are labelled as scripted.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation
from nearer.core.interfaces import Decision, Rngs
from nearer.envs.tabletop.demonstrator import push_planner
from nearer.envs.tabletop.demonstrator.noise import DemonstratorStyle, MotionNoise, draw_style
from nearer.envs.tabletop.demonstrator.roadmap import Roadmap, build_roadmap, is_clear
from nearer.envs.tabletop.language import InstructionFamily, TabletopTask
from nearer.envs.tabletop.layout import EFFECTOR_X_M, EFFECTOR_Y_M, BlockLayout
from nearer.envs.tabletop.tasks import (
    TOUCHING_M,
    has_room_behind,
    is_successful,
    separation_directions,
    target,
)

MAX_ACTION_M = 0.05
"""Bound of an action, along x or y."""
_FREE_M = 0.041
"""Between the centres of pusher and block when the two do not touch."""
_STAND_OFF_M = 0.008
"""How much further behind a block the pusher goes before it pushes."""
_BLOCKS_APART_M = 0.055
"""Between the centres of a pushed block and the others that it avoids."""
_NEAR_M = 0.02
"""A point is reached, and a push may start, within this distance."""
_PAST_M = 0.008
"""Behind the block's centre by less than this, the pusher is too far forward to push it."""
_LOST_M = 0.02
"""So far beside the middle of a block, the pusher slides off it: the push ends."""
_SIDEWAYS_GAIN = 0.7
"""Fraction of the sideways error that one step of pushing corrects."""
_EASE_M = 0.008
"""A step of approach is at most half of the distance left, plus this."""
_APPROACH_NOISE_DECAY = 0.8
"""Fraction of the approach's offset that is left after a step."""
_TOUCH_MARGIN_M = 0.007
"""So far within the distance that counts as pointing at a block."""
_RETREAT_STEPS = 3
_BASE_TREMOR_M = 0.0005
"""Tremor of a pusher that stands still."""
_TEMPO_AR, _TREMOR_AR = (0.9, 0.44), (0.6, 0.8)
"""First-order autoregressive noise: weights of the last value and of new noise. Their squares add
up to 1, so the variance stays 1."""


@runtime_checkable
class TabletopGroundTruth(Protocol):
    """The simulator's ground truth that the demonstrator reads."""

    def layouts(self, robots: Int64[Array, "robots"]) -> list[BlockLayout]:
        """Return the present layout of each of these robots' tabletops."""
        ...

    def tasks(self, robots: Int64[Array, "robots"]) -> list[TabletopTask]:
        """Return the task of each of these robots' instructions."""
        ...


def _zeros() -> Float64[Array, "2"]:
    return np.zeros(2)


@dataclass(slots=True, kw_only=True)
class _MotionState:
    """What a demonstrator carries from step to step of one episode.

    Attributes:
        log_tempo: of unit variance; `MotionNoise.tempo_std` scales it.
        approach_offset: error of the point that is approached, in metres.
        heading: direction of the push before.
        last_step: before tremor.
        last_action: as sent to the robot.
    """

    style: DemonstratorStyle
    started: bool = False
    swaps_blocks: bool = False
    pushing: bool = False
    pause_steps: int = 0
    retreat_steps: int = 0
    log_tempo: float = 0.0
    detour: Array | None = None
    roadmap: Roadmap | None = None
    approach_offset: Array = field(default_factory=_zeros)
    heading: Array = field(default_factory=_zeros)
    last_step: Array = field(default_factory=_zeros)
    tremor: Array = field(default_factory=_zeros)
    last_action: Array = field(default_factory=_zeros)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Push:
    """A block to be pushed: its row, its goal, and the rows of blocks that it need not avoid."""

    row: int
    goal: Float64[Array, "2"]
    may_touch: tuple[int, ...]


class TabletopDemonstrator:
    """The scripted policy with motion noise: a new style each episode."""

    def __init__(
        self,
        ground_truth: TabletopGroundTruth,
        noise: MotionNoise,
        num_robots: int,
        control_hz: float = 5,
    ) -> None:
        self._ground_truth = ground_truth
        self._noise = noise
        self._control_hz = control_hz
        # a placeholder until `begin`
        style = draw_style(noise, np.random.default_rng(0))
        self._states = [_MotionState(style=style) for _ in range(num_robots)]

    def begin(self, robots: Int64[Array, "robots"], rngs: Rngs) -> None:
        """Draw a new style for each of these robots."""
        for robot, rng in zip(robots, rngs, strict=True):
            style = draw_style(self._noise, rng, self._control_hz)
            self._states[int(robot)] = _MotionState(style=style)

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        rngs: Rngs,
    ) -> Decision:
        """Return one action a robot; log_prob is 0, since a demonstrator's is not known."""
        actions = np.zeros((len(robots), 2), np.float32)
        layouts = self._ground_truth.layouts(robots)
        tasks = self._ground_truth.tasks(robots)
        for row, rng in enumerate(rngs):
            state = self._states[int(robots[row])]
            layout = _anticipated(state, layouts[row])
            if not state.started:
                _start(state, self._noise, layout, tasks[row], rng)
            planned = self._planned_step(state, layout, tasks[row], rng)
            actions[row] = self._noisy_step(state, planned, rng)
        return Decision(actions=actions, log_prob=np.zeros(len(robots), np.float32))

    def _noisy_step(self, state: _MotionState, planned: Array, rng: np.random.Generator) -> Array:
        """Return a planned step with pauses, drifting tempo, smoothing and tremor."""
        style = state.style
        if state.pause_steps == 0 and rng.random() < style.pause_probability:
            state.pause_steps = _draw_pause(self._noise, rng)
        state.log_tempo = _TEMPO_AR[0] * state.log_tempo + _TEMPO_AR[1] * rng.normal()
        tempo = 0.0 if state.pause_steps else math.exp(self._noise.tempo_std * state.log_tempo)
        state.pause_steps = max(0, state.pause_steps - 1)
        state.last_step = (
            style.smoothing * state.last_step + (1 - style.smoothing) * tempo * planned
        )
        state.tremor = _TREMOR_AR[0] * state.tremor + _TREMOR_AR[1] * rng.normal(size=2)
        tremor_m = style.tremor * math.hypot(*state.last_step) + _BASE_TREMOR_M
        state.last_action = np.clip(
            state.last_step + tremor_m * state.tremor, -MAX_ACTION_M, MAX_ACTION_M
        )
        return state.last_action

    def _planned_step(
        self,
        state: _MotionState,
        layout: BlockLayout,
        task: TabletopTask,
        rng: np.random.Generator,
    ) -> Array:
        """Return the step of the noise-free controller: zero once the task is solved."""
        if is_successful(task, layout):
            return np.zeros(2)
        if state.detour is not None:
            if math.dist(state.detour, layout.effector) > _NEAR_M:
                return _approach(state, layout, state.detour)
            state.detour = None
        if task.family is InstructionFamily.POINT:
            return _approach(state, layout, _pointing_spot(task, layout))
        return self._push(state, layout, _plan(state, task, layout), rng)

    def _push(
        self, state: _MotionState, layout: BlockLayout, push: _Push, rng: np.random.Generator
    ) -> Array:
        """Return a step behind the block, or a step of pushing when the pusher is there."""
        discs, block = push_planner.discs(layout), layout.poses[push.row, :2]
        others = discs.without((push.row, *push.may_touch))
        state.heading = push_planner.plan_push_direction(
            block, push.goal, others, _BLOCKS_APART_M, state.heading
        )
        aside = push_planner.left(state.heading)
        behind_m = push_planner.reach_behind_m(discs.of(push.row), block, state.heading, _FREE_M)
        relative = layout.effector - block
        along_m, sideways_m = float(relative @ state.heading), float(relative @ aside)
        self._update_push_phase(state, along_m, sideways_m, behind_m, rng)
        if state.retreat_steps:
            state.retreat_steps -= 1
            return -state.style.push_step_m * state.heading
        if state.pushing:
            # slower near the goal, so that the block does not shoot past it
            step_m = min(state.style.push_step_m, 0.006 + math.dist(block, push.goal))
            return step_m * state.heading - _SIDEWAYS_GAIN * sideways_m * aside
        state.approach_offset = _APPROACH_NOISE_DECAY * state.approach_offset
        spot = block - (behind_m + _STAND_OFF_M) * state.heading
        return _approach(state, layout, spot + state.approach_offset)

    def _update_push_phase(
        self,
        state: _MotionState,
        along_m: float,
        sideways_m: float,
        behind_m: float,
        rng: np.random.Generator,
    ) -> None:
        """Start or end pushing; `along_m`, `sideways_m` is the pusher relative to the block."""
        if state.pushing:
            retreats = rng.random() < self._noise.retreat_probability
            if retreats or abs(sideways_m) > _LOST_M or along_m > _PAST_M:
                state.pushing = False
                state.retreat_steps = _RETREAT_STEPS if retreats else 0
                state.approach_offset = rng.normal(0, self._noise.approach_noise_m, 2)
        elif not state.retreat_steps and -behind_m - _NEAR_M < along_m < -_PAST_M:
            state.pushing = abs(sideways_m) < state.style.push_tolerance_m
            if state.pushing and rng.random() < self._noise.hesitation_probability:
                state.pause_steps = _draw_pause(self._noise, rng)


def _start(
    state: _MotionState,
    noise: MotionNoise,
    layout: BlockLayout,
    task: TabletopTask,
    rng: np.random.Generator,
) -> None:
    """Draw what depends on the layout at the episode's start: detour, and which block to push."""
    state.started = True
    state.approach_offset = rng.normal(0, noise.approach_noise_m, 2)
    if state.style.takes_detour:
        state.detour = _draw_detour(layout, rng)
    if task.family is InstructionFamily.BLOCK_TO_BLOCK:
        first, second = map(layout.position, task.blocks)
        direction = ((second - first) / math.dist(first, second))[None]
        fits_first = has_room_behind(task.blocks[0], direction, layout)[0]
        fits_second = has_room_behind(task.blocks[1], -direction, layout)[0]
        state.swaps_blocks = bool(fits_second and (state.style.swaps_blocks or not fits_first))


def _anticipated(state: _MotionState, layout: BlockLayout) -> BlockLayout:
    """Return the layout with the effector where the action still under way will bring it."""
    if not state.style.anticipates_delay:
        return layout
    return dataclasses.replace(layout, effector=layout.effector + state.last_action)


def _plan(state: _MotionState, task: TabletopTask, layout: BlockLayout) -> _Push:
    """Return which block to push, and to which point."""
    rows = [layout.blocks.index(block) for block in task.blocks]
    if task.family is InstructionFamily.BLOCK_TO_BLOCK:
        moved, other = reversed(rows) if state.swaps_blocks else rows
        return _Push(row=moved, goal=layout.poses[other, :2], may_touch=(other,))
    goal = target(task, layout)
    if task.family is InstructionFamily.SEPARATE:
        directions = separation_directions(task, layout)
        if len(directions):
            direction = directions[int((directions @ state.heading).argmax())]
            goal = layout.poses[rows[0], :2] + TOUCHING_M * direction
    return _Push(row=rows[0], goal=goal, may_touch=())


def _approach(state: _MotionState, layout: BlockLayout, spot: Array) -> Array:
    """Return a step towards a point, around all blocks, slower near its end."""
    start, clearance_m = layout.effector, state.style.clearance_m
    distance_m = math.dist(spot, start)
    step_m = min(state.style.approach_step_m, distance_m, 0.5 * distance_m + _EASE_M)
    centres = push_planner.discs(layout).centres
    if is_clear(start, spot, centres, clearance_m):
        return step_m / max(distance_m, 1e-6) * (spot - start)
    if state.roadmap is None or not state.roadmap.fits(centres):
        state.roadmap = build_roadmap(centres, clearance_m)
    last_direction = state.last_step / max(math.hypot(*state.last_step), 1e-6)
    return step_m * state.roadmap.heading(start, spot, last_direction, state.style.side_preference)


def _pointing_spot(task: TabletopTask, layout: BlockLayout) -> Array:
    """Return the point next to the block that is nearest to the pusher."""
    block = layout.position(task.blocks[0])
    offset = layout.effector - block
    return block + offset / max(math.hypot(*offset), 1e-6) * (TOUCHING_M - _TOUCH_MARGIN_M)


def _draw_detour(layout: BlockLayout, rng: np.random.Generator) -> Array:
    """Draw a point around the pusher that has nothing to do with the instruction."""
    angle, distance_m = rng.uniform(-math.pi, math.pi), rng.uniform(0.05, 0.12)
    x, y = layout.effector + distance_m * np.array([math.cos(angle), math.sin(angle)])
    return np.array([np.clip(x, *EFFECTOR_X_M), np.clip(y, *EFFECTOR_Y_M)])


def _draw_pause(noise: MotionNoise, rng: np.random.Generator) -> int:
    return int(rng.integers(1, noise.pause_steps + 1))
