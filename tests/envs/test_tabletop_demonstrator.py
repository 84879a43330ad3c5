"""The scripted person fulfils every instruction, and moves like somebody, not like a machine."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.interfaces import Rngs
from nearer.envs.tabletop.appearance import REAL, SIM, Look
from nearer.envs.tabletop.demonstrator.noise import HABITS_REAL, HABITS_SIM, Habits, draw_person
from nearer.envs.tabletop.demonstrator.policy import LONGEST_M, TabletopDemonstrator
from nearer.envs.tabletop.demonstrator.roadmap import build_roadmap, is_clear
from nearer.envs.tabletop.language import Family, Task
from nearer.envs.tabletop.layout import BANANA, BLOCKS, Layout
from nearer.envs.tabletop.simulation import Simulation
from nearer.envs.tabletop.tasks import draw_start, propose, solved

LIMIT_STEPS = 90


def _observation(num_robots: int) -> EncodedObservation:
    """Return an observation that shows nothing: the person sees the board itself."""
    return EncodedObservation.without_features(
        Observation(
            agent_pos=np.zeros((num_robots, 2), np.float32),
            environment_state=np.zeros((num_robots, 0), np.float32),
        )
    )


@dataclass
class Boards:
    """Real boards under the demonstrator's eyes."""

    simulations: list[Simulation]
    asked: list[Task] = field(default_factory=list[Task])

    def layouts(self, robots: Array) -> list[Layout]:
        return [self.simulations[robot].layout() for robot in robots]

    def tasks(self, robots: Array) -> list[Task]:
        return [self.asked[robot] for robot in robots]


def start(family: Family, look: Look, seeds: list[int]) -> Boards:
    blocks = (BANANA,) if family is Family.BANANA else BLOCKS
    boards = Boards([Simulation(blocks, look) for _ in seeds])
    for simulation, seed in zip(boards.simulations, seeds, strict=True):
        layout, task = draw_start(blocks, [family], np.random.default_rng([seed, 1]))
        simulation.reset(layout)
        boards.asked.append(task)
    return boards


def demonstrate(boards: Boards, habits: Habits, seeds: list[int]) -> list[Array]:
    """Return each board's actions up to success, or to the time limit."""
    num_boards = len(boards.simulations)
    demonstrator = TabletopDemonstrator(boards, habits, num_boards)
    generators: Rngs = [np.random.default_rng([seed, 2]) for seed in seeds]
    demonstrator.begin(np.arange(num_boards), generators)
    actions: list[list[Array]] = [[] for _ in seeds]
    for _ in range(LIMIT_STEPS):
        robots = np.array([i for i in range(num_boards) if not is_solved(boards, i)], np.int64)
        if len(robots) == 0:
            break
        decision = demonstrator.act(
            _observation(len(robots)),
            ["x"] * len(robots),
            robots,
            [generators[i] for i in map(int, robots)],
        )
        for robot, action in zip(robots, decision.actions, strict=True):
            actions[robot].append(action)
            boards.simulations[robot].step(action)
    return [np.array(taken).reshape(-1, 2) for taken in actions]


def is_solved(boards: Boards, robot: int) -> bool:
    return solved(boards.asked[robot], boards.simulations[robot].layout())


@pytest.mark.parametrize("look", [SIM, REAL], ids=["sim", "real"])
@pytest.mark.parametrize("family", Family)
def test_fulfils_every_instruction(family: Family, look: Look) -> None:
    seeds = list(range(20_000, 20_024))
    boards = start(family, look, seeds)
    actions = demonstrate(boards, HABITS_REAL if look is REAL else HABITS_SIM, seeds)
    fulfilled = [is_solved(boards, i) for i in range(len(seeds))]
    assert np.mean(fulfilled) >= 22 / 24
    for taken in actions:
        assert len(taken) > 0
        assert np.abs(taken).max() <= LONGEST_M
    steps = [len(taken) for taken in actions]
    assert np.mean(steps) < 50


def test_people_differ_in_tempo_and_each_speeds_up_and_slows_down() -> None:
    seeds = list(range(20_100, 20_124))
    boards = start(Family.BLOCK_TO_BLOCK, SIM, seeds)
    speeds = [np.hypot(*taken.T) for taken in demonstrate(boards, HABITS_SIM, seeds)]
    mean_m = np.array([speed.mean() for speed in speeds])
    assert mean_m.max() > 1.3 * mean_m.min()
    assert np.median(mean_m) == pytest.approx(0.021, abs=0.005)
    assert np.median([speed.std() / speed.mean() for speed in speeds]) > 0.25
    assert np.median([np.abs(np.diff(speed)).mean() for speed in speeds]) < 0.012, "smoothly"


def test_equal_seeds_act_equally_whoever_acts_beside_them() -> None:
    seeds = [20_200, 20_201, 20_202]
    together = demonstrate(start(Family.SEPARATE, SIM, seeds), HABITS_SIM, seeds)
    for seed, beside_others in zip(seeds, together, strict=True):
        (alone,) = demonstrate(start(Family.SEPARATE, SIM, [seed]), HABITS_SIM, [seed])
        assert np.array_equal(alone, beside_others)


def test_goes_on_without_a_reset() -> None:
    families = [family for family in Family if family is not Family.BANANA]
    rngs = np.random.default_rng(20_300)
    boards = start(Family.BLOCK_TO_BLOCK, SIM, [20_300])
    fulfilled: list[bool] = []
    for episode in range(16):
        boards.asked[0] = propose(boards.simulations[0].layout(), families, rngs)
        demonstrate(boards, HABITS_SIM, [20_301 + episode])
        fulfilled.append(is_solved(boards, 0))
    assert sum(fulfilled) >= 15


def test_rests_when_it_is_done() -> None:
    boards = start(Family.POINT, SIM, [20_400])
    demonstrator = TabletopDemonstrator(boards, HABITS_SIM, 1)
    robots, generators = np.zeros(1, np.int64), [np.random.default_rng(20_400)]
    demonstrator.begin(robots, generators)
    decision = demonstrator.act(_observation(1), ["x"], robots, generators)
    for _ in range(LIMIT_STEPS):
        boards.simulations[0].step(decision.actions[0])
        decision = demonstrator.act(_observation(1), ["x"], robots, generators)
    assert is_solved(boards, 0)
    assert np.abs(decision.actions).max() < 0.003
    assert decision.log_prob == 0


def test_at_twice_the_rate_steps_are_half_as_long() -> None:
    at_5_hz, at_10_hz = (
        draw_person(HABITS_SIM, np.random.default_rng(3), control_hz) for control_hz in (5, 10)
    )
    assert at_10_hz.reach_m == pytest.approx(at_5_hz.reach_m / 2)
    assert at_10_hz.clearance_m == at_5_hz.clearance_m


def test_the_pusher_goes_round_what_stands_between() -> None:
    discs, clearance_m = np.array([[0.4, 0.0], [0.4, 0.05]]), 0.045
    position, goal, heading = np.array([0.3, 0.0]), np.array([0.5, 0.0]), np.zeros(2)
    roadmap = build_roadmap(discs, clearance_m)
    assert not is_clear(position, goal, discs, clearance_m)
    nearest_m = np.inf
    for _ in range(60):
        heading = roadmap.heading(position, goal, heading, handedness=0.0)
        position = position + 0.005 * heading
        nearest_m = min(nearest_m, float(np.hypot(*(discs - position).T).min()))
        if np.hypot(*(position - goal)) < 0.006:
            break
    else:
        pytest.fail("it never arrived")
    assert nearest_m > 0.9 * clearance_m
    assert position[1] <= 0, "the shorter way is past the lone side"
