"""A scripted person who fulfils every instruction: the source of demonstrations.

For each robot: go behind the block, push it, correct what drifts sideways, and go behind it again
when it slid away. Where to go depends on the present layout alone, so it can be cloned from
pictures; what a person adds to that (tempo, care, tremor, stops, detours, slips) does not, so a
clone is left with something to improve. It reads the simulator's truth; its episodes are labelled
as scripted.
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
from nearer.envs.tabletop.demonstrator.noise import Habits, Person, draw_person
from nearer.envs.tabletop.demonstrator.roadmap import Roadmap, build_roadmap, is_clear
from nearer.envs.tabletop.language import Family, Task
from nearer.envs.tabletop.layout import EFFECTOR_X_M, EFFECTOR_Y_M, Layout
from nearer.envs.tabletop.tasks import TOUCHING_M, room_behind, solved, target, ways_apart

LONGEST_M = 0.05
"""No action is longer, along x or y."""
_FREE_M = 0.041
"""Between the centres of pusher and block when the pusher is free of it."""
_STAND_OFF_M = 0.008
"""How much further behind a block the pusher goes before it pushes."""
_BLOCKS_APART_M = 0.055
_NEAR_M, _PAST_M = 0.02, 0.008
_LOST_M = 0.02
"""So far beside the middle of a block it is not pushed any more, but slides off."""
_SIDEWAYS_GAIN = 0.7
"""Share of the sideways error that a step of pushing takes back."""
_EASE_M = 0.008
"""A step of approach is half of the way that is left, and this."""
_RETREAT_STEPS = 3
_MOOD, _TREMOR = (0.9, 0.44), (0.6, 0.8)
"""Shares of the last value and of new noise; their squares add up to 1, so the variance is 1."""


@runtime_checkable
class SeesBoard(Protocol):
    """What knows where everything is: the simulator."""

    def layouts(self, robots: Int64[Array, "robots"]) -> list[Layout]:
        """Return the layout of each of these robots' boards, now."""
        ...

    def tasks(self, robots: Int64[Array, "robots"]) -> list[Task]:
        """Return what each of these robots was asked to do."""
        ...


def _zeros() -> Float64[Array, "2"]:
    return np.zeros(2)


@dataclass(slots=True, kw_only=True)
class _Hand:
    """What a person has in mind and in hand; changes from step to step."""

    person: Person
    started: bool = False
    swaps: bool = False
    pushing: bool = False
    pause_steps: int = 0
    retreat_steps: int = 0
    mood: float = 0.0
    detour: Array | None = None
    roadmap: Roadmap | None = None
    slip: Array = field(default_factory=_zeros)
    heading: Array = field(default_factory=_zeros)
    step: Array = field(default_factory=_zeros)
    tremor: Array = field(default_factory=_zeros)
    done: Array = field(default_factory=_zeros)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Push:
    """A block to be pushed: its row, where to, and the rows of blocks that it need not avoid."""

    row: int
    goal: Float64[Array, "2"]
    may_touch: tuple[int, ...]


class TabletopDemonstrator:
    """Acts like people of the given habits: one person an episode."""

    def __init__(
        self, board: SeesBoard, habits: Habits, num_robots: int, control_hz: float = 5
    ) -> None:
        self._board = board
        self._habits = habits
        self._control_hz = control_hz
        nobody = draw_person(habits, np.random.default_rng(0))
        self._hands = [_Hand(person=nobody) for _ in range(num_robots)]

    def begin(self, robots: Int64[Array, "robots"], rngs: Rngs) -> None:
        """Let another person begin on each of these robots."""
        for robot, generator in zip(robots, rngs, strict=True):
            person = draw_person(self._habits, generator, self._control_hz)
            self._hands[int(robot)] = _Hand(person=person)

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        rngs: Rngs,
    ) -> Decision:
        """Return one step of each person; log_prob is 0, people do not know theirs."""
        actions = np.zeros((len(robots), 2), np.float32)
        layouts, tasks = self._board.layouts(robots), self._board.tasks(robots)
        for row, generator in enumerate(rngs):
            hand = self._hands[int(robots[row])]
            layout = _anticipated(hand, layouts[row])
            if not hand.started:
                _start(hand, self._habits, layout, tasks[row], generator)
            wanted = self._wanted_step(hand, layout, tasks[row], generator)
            actions[row] = self._human_step(hand, wanted, generator)
        return Decision(actions=actions, log_prob=np.zeros(len(robots), np.float32))

    def _human_step(self, hand: _Hand, wanted: Array, rngs: np.random.Generator) -> Array:
        """Make a step sluggish, shaky, of changing tempo and sometimes late."""
        person = hand.person
        if hand.pause_steps == 0 and rngs.random() < person.pause_probability:
            hand.pause_steps = _draw_pause(self._habits, rngs)
        hand.mood = _MOOD[0] * hand.mood + _MOOD[1] * rngs.normal()
        tempo = 0.0 if hand.pause_steps else math.exp(self._habits.moodiness * hand.mood)
        hand.pause_steps = max(0, hand.pause_steps - 1)
        hand.step = person.inertia * hand.step + (1 - person.inertia) * tempo * wanted
        hand.tremor = _TREMOR[0] * hand.tremor + _TREMOR[1] * rngs.normal(size=2)
        shake_m = person.tremor * math.hypot(*hand.step) + 0.0005
        hand.done = np.clip(hand.step + shake_m * hand.tremor, -LONGEST_M, LONGEST_M)
        return hand.done

    def _wanted_step(
        self, hand: _Hand, layout: Layout, task: Task, rngs: np.random.Generator
    ) -> Array:
        if solved(task, layout):
            return np.zeros(2)
        if hand.detour is not None:
            if math.dist(hand.detour, layout.effector) > _NEAR_M:
                return _approach(hand, layout, hand.detour)
            hand.detour = None
        if task.family is Family.POINT:
            return _approach(hand, layout, _pointing_spot(task, layout))
        return self._push(hand, layout, _plan(hand, task, layout), rngs)

    def _push(self, hand: _Hand, layout: Layout, push: _Push, rngs: np.random.Generator) -> Array:
        """Go behind the block, or push it when the pusher is there."""
        discs, block = push_planner.discs(layout), layout.poses[push.row, :2]
        others = discs.without((push.row, *push.may_touch))
        hand.heading = push_planner.steer_block(
            block, push.goal, others, _BLOCKS_APART_M, hand.heading
        )
        aside = push_planner.left(hand.heading)
        behind_m = push_planner.reach_behind_m(discs.of(push.row), block, hand.heading, _FREE_M)
        relative = layout.effector - block
        along_m, sideways_m = float(relative @ hand.heading), float(relative @ aside)
        self._let_go_or_begin(hand, along_m, sideways_m, behind_m, rngs)
        if hand.retreat_steps:
            hand.retreat_steps -= 1
            return -hand.person.push_m * hand.heading
        if hand.pushing:
            step_m = min(hand.person.push_m, 0.006 + math.dist(block, push.goal))
            return step_m * hand.heading - _SIDEWAYS_GAIN * sideways_m * aside
        hand.slip = 0.8 * hand.slip
        spot = block - (behind_m + _STAND_OFF_M) * hand.heading
        return _approach(hand, layout, spot + hand.slip)

    def _let_go_or_begin(
        self,
        hand: _Hand,
        along_m: float,
        sideways_m: float,
        behind_m: float,
        rngs: np.random.Generator,
    ) -> None:
        """Decide whether to push: `along_m`, `sideways_m` is the pusher seen from the block."""
        if hand.pushing:
            retreats = rngs.random() < self._habits.retreat_probability
            if retreats or abs(sideways_m) > _LOST_M or along_m > _PAST_M:
                hand.pushing = False
                hand.retreat_steps = _RETREAT_STEPS if retreats else 0
                hand.slip = rngs.normal(0, self._habits.slip_m, 2)
        elif not hand.retreat_steps and -behind_m - _NEAR_M < along_m < -_PAST_M:
            hand.pushing = abs(sideways_m) < hand.person.care_m
            if hand.pushing and rngs.random() < self._habits.hesitation_probability:
                hand.pause_steps = _draw_pause(self._habits, rngs)


def _start(
    hand: _Hand, habits: Habits, layout: Layout, task: Task, rngs: np.random.Generator
) -> None:
    """Make up a person's mind at the sight of the board."""
    hand.started = True
    hand.slip = rngs.normal(0, habits.slip_m, 2)
    if hand.person.detours:
        hand.detour = _draw_detour(layout, rngs)
    if task.family is Family.BLOCK_TO_BLOCK:
        first, second = map(layout.position, task.blocks)
        way = ((second - first) / math.dist(first, second))[None]
        fits_first = room_behind(task.blocks[0], way, layout)[0]
        fits_second = room_behind(task.blocks[1], -way, layout)[0]
        hand.swaps = bool(fits_second and (hand.person.swaps or not fits_first))


def _anticipated(hand: _Hand, layout: Layout) -> Layout:
    """Return where things are in the mind of a person who is used to a late robot."""
    if not hand.person.anticipates:
        return layout
    return dataclasses.replace(layout, effector=layout.effector + hand.done)


def _plan(hand: _Hand, task: Task, layout: Layout) -> _Push:
    """Return which block to push where."""
    rows = [layout.blocks.index(block) for block in task.blocks]
    if task.family is Family.BLOCK_TO_BLOCK:
        moved, other = reversed(rows) if hand.swaps else rows
        return _Push(row=moved, goal=layout.poses[other, :2], may_touch=(other,))
    goal = target(task, layout)
    if task.family is Family.SEPARATE:
        ways = ways_apart(task, layout)
        if len(ways):
            chosen = ways[int((ways @ hand.heading).argmax())]
            goal = layout.poses[rows[0], :2] + TOUCHING_M * chosen
    return _Push(row=rows[0], goal=goal, may_touch=())


def _approach(hand: _Hand, layout: Layout, spot: Array) -> Array:
    """Return a step towards a spot, round all blocks, slower near its end."""
    start, clearance_m = layout.effector, hand.person.clearance_m
    distance_m = math.dist(spot, start)
    step_m = min(hand.person.reach_m, distance_m, 0.5 * distance_m + _EASE_M)
    centres = push_planner.discs(layout).centres
    if is_clear(start, spot, centres, clearance_m):
        return step_m / max(distance_m, 1e-6) * (spot - start)
    if hand.roadmap is None or not hand.roadmap.fits(centres):
        hand.roadmap = build_roadmap(centres, clearance_m)
    last = hand.step / max(math.hypot(*hand.step), 1e-6)
    return step_m * hand.roadmap.heading(start, spot, last, hand.person.handedness)


def _pointing_spot(task: Task, layout: Layout) -> Array:
    """Return the point next to the block that is nearest to the pusher."""
    block = layout.position(task.blocks[0])
    offset = layout.effector - block
    return block + offset / max(math.hypot(*offset), 1e-6) * (TOUCHING_M - 0.007)


def _draw_detour(layout: Layout, rngs: np.random.Generator) -> Array:
    """Draw a point around the pusher that has nothing to do with the instruction."""
    angle, distance_m = rngs.uniform(-math.pi, math.pi), rngs.uniform(0.05, 0.12)
    x, y = layout.effector + distance_m * np.array([math.cos(angle), math.sin(angle)])
    return np.array([np.clip(x, *EFFECTOR_X_M), np.clip(y, *EFFECTOR_Y_M)])


def _draw_pause(habits: Habits, rngs: np.random.Generator) -> int:
    return int(rngs.integers(1, habits.pause_steps + 1))
