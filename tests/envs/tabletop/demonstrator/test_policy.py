"""The scripted demonstrator solves every instruction, with motion noise."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.interfaces import Rngs
from nearer.envs.tabletop.appearance import REAL, SIM, Appearance
from nearer.envs.tabletop.demonstrator.noise import (
    MOTION_NOISE_REAL,
    MOTION_NOISE_SIM,
    MotionNoise,
)
from nearer.envs.tabletop.demonstrator.policy import MAX_ACTION_M, TabletopDemonstrator
from nearer.envs.tabletop.language import InstructionFamily, TabletopTask
from nearer.envs.tabletop.layout import BANANA, BLOCKS, BlockLayout
from nearer.envs.tabletop.simulation import Simulation
from nearer.envs.tabletop.tasks import draw_start, draw_task, is_successful

LIMIT_STEPS = 90


def _observation(num_robots: int) -> EncodedObservation:
    """Return an empty observation: the demonstrator reads the ground truth."""
    return EncodedObservation.without_features(
        Observation(
            agent_pos=np.zeros((num_robots, 2), np.float32),
            environment_state=np.zeros((num_robots, 0), np.float32),
        )
    )


@dataclass
class SimulatedTabletops:
    """Ground truth of simulations, as the demonstrator reads it."""

    simulations: list[Simulation]
    tasks_by_robot: list[TabletopTask] = field(default_factory=list[TabletopTask])

    def layouts(self, robots: Array) -> list[BlockLayout]:
        return [self.simulations[robot].layout() for robot in robots]

    def tasks(self, robots: Array) -> list[TabletopTask]:
        return [self.tasks_by_robot[robot] for robot in robots]


def start(
    family: InstructionFamily, appearance: Appearance, seeds: list[int]
) -> SimulatedTabletops:
    blocks = (BANANA,) if family is InstructionFamily.BANANA else BLOCKS
    tabletops = SimulatedTabletops([Simulation(blocks, appearance) for _ in seeds])
    for simulation, seed in zip(tabletops.simulations, seeds, strict=True):
        layout, task = draw_start(blocks, [family], np.random.default_rng([seed, 1]))
        simulation.reset(layout)
        tabletops.tasks_by_robot.append(task)
    return tabletops


def demonstrate(tabletops: SimulatedTabletops, noise: MotionNoise, seeds: list[int]) -> list[Array]:
    """Return each robot's actions up to success, or to the time limit."""
    num_robots = len(tabletops.simulations)
    demonstrator = TabletopDemonstrator(tabletops, noise, num_robots)
    rngs: Rngs = [np.random.default_rng([seed, 2]) for seed in seeds]
    demonstrator.begin(np.arange(num_robots), rngs)
    actions: list[list[Array]] = [[] for _ in seeds]
    for _ in range(LIMIT_STEPS):
        robots = np.array([i for i in range(num_robots) if not is_solved(tabletops, i)], np.int64)
        if len(robots) == 0:
            break
        decision = demonstrator.act(
            _observation(len(robots)),
            ["x"] * len(robots),
            robots,
            [rngs[i] for i in map(int, robots)],
        )
        for robot, action in zip(robots, decision.actions, strict=True):
            actions[robot].append(action)
            tabletops.simulations[robot].step(action)
    return [np.array(episode_actions).reshape(-1, 2) for episode_actions in actions]


def is_solved(tabletops: SimulatedTabletops, robot: int) -> bool:
    return is_successful(tabletops.tasks_by_robot[robot], tabletops.simulations[robot].layout())


@pytest.mark.parametrize("appearance", [SIM, REAL], ids=["sim", "real"])
@pytest.mark.parametrize("family", InstructionFamily)
def test_demonstrator_solves_instructions_of_every_family(
    family: InstructionFamily, appearance: Appearance
) -> None:
    seeds = list(range(20_000, 20_024))
    tabletops = start(family, appearance, seeds)
    actions = demonstrate(
        tabletops, MOTION_NOISE_REAL if appearance is REAL else MOTION_NOISE_SIM, seeds
    )
    solved = [is_solved(tabletops, i) for i in range(len(seeds))]
    assert np.mean(solved) >= 22 / 24
    for episode_actions in actions:
        assert len(episode_actions) > 0
        assert np.abs(episode_actions).max() <= MAX_ACTION_M
    steps = [len(episode_actions) for episode_actions in actions]
    assert np.mean(steps) < 50


def test_demonstrator_tempo_differs_between_and_within_episodes() -> None:
    seeds = list(range(20_100, 20_124))
    tabletops = start(InstructionFamily.BLOCK_TO_BLOCK, SIM, seeds)
    speeds = [
        np.hypot(*episode_actions.T)
        for episode_actions in demonstrate(tabletops, MOTION_NOISE_SIM, seeds)
    ]
    mean_m = np.array([speed.mean() for speed in speeds])
    assert mean_m.max() > 1.3 * mean_m.min()
    assert np.median(mean_m) == pytest.approx(0.021, abs=0.005)
    assert np.median([speed.std() / speed.mean() for speed in speeds]) > 0.25
    assert np.median([np.abs(np.diff(speed)).mean() for speed in speeds]) < 0.012, "smoothly"


def test_demonstrator_equal_seeds_act_equally_beside_any_others() -> None:
    seeds = [20_200, 20_201, 20_202]
    together = demonstrate(start(InstructionFamily.SEPARATE, SIM, seeds), MOTION_NOISE_SIM, seeds)
    for seed, beside_others in zip(seeds, together, strict=True):
        (alone,) = demonstrate(
            start(InstructionFamily.SEPARATE, SIM, [seed]), MOTION_NOISE_SIM, [seed]
        )
        assert np.array_equal(alone, beside_others)


def test_demonstrator_solves_a_next_instruction_without_a_reset() -> None:
    families = [family for family in InstructionFamily if family is not InstructionFamily.BANANA]
    rng = np.random.default_rng(20_300)
    tabletops = start(InstructionFamily.BLOCK_TO_BLOCK, SIM, [20_300])
    solved: list[bool] = []
    for episode in range(16):
        tabletops.tasks_by_robot[0] = draw_task(tabletops.simulations[0].layout(), families, rng)
        demonstrate(tabletops, MOTION_NOISE_SIM, [20_301 + episode])
        solved.append(is_solved(tabletops, 0))
    assert sum(solved) >= 15


def test_demonstrator_rests_after_success() -> None:
    tabletops = start(InstructionFamily.POINT, SIM, [20_400])
    demonstrator = TabletopDemonstrator(tabletops, MOTION_NOISE_SIM, 1)
    robots, rngs = np.zeros(1, np.int64), [np.random.default_rng(20_400)]
    demonstrator.begin(robots, rngs)
    decision = demonstrator.act(_observation(1), ["x"], robots, rngs)
    for _ in range(LIMIT_STEPS):
        tabletops.simulations[0].step(decision.actions[0])
        decision = demonstrator.act(_observation(1), ["x"], robots, rngs)
    assert is_solved(tabletops, 0)
    assert np.abs(decision.actions).max() < 0.003
    assert decision.log_prob == 0
