"""The tabletop's physics: pushing, the rim, the delay of the real appearance, bad input."""

import dataclasses

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import REAL, SIM, Appearance
from nearer.envs.tabletop.layout import (
    BANANA,
    BLOCK_X_M,
    BLOCK_Y_M,
    BLOCKS,
    Block,
    BlockLayout,
)
from nearer.envs.tabletop.simulation import Simulation
from nearer.envs.tabletop.tasks import draw_layout

CUBE = Block("blue", "cube")
EAST = np.array([0.0, 0.02])


def lone_block(
    block: Block, pose: tuple[float, float, float], effector: tuple[float, float]
) -> BlockLayout:
    return BlockLayout(blocks=(block,), poses=np.array([pose]), effector=np.array(effector))


def simulated(layout: BlockLayout, appearance: Appearance = SIM, control_hz: int = 5) -> Simulation:
    simulation = Simulation(layout.blocks, appearance, control_hz)
    simulation.reset(layout)
    return simulation


def walk_to(simulation: Simulation, goal: tuple[float, float], longest_m: float = 0.04) -> None:
    for _ in range(40):
        way = np.array(goal) - simulation.effector()
        simulation.step(way / max(1.0, float(np.hypot(*way)) / longest_m))


def test_simulation_push_moves_one_block_and_leaves_the_others() -> None:
    layout = draw_layout(BLOCKS, np.random.default_rng(2))
    poses = np.column_stack([np.tile([0.2, 0.3, 0.4, 0.5], 2), np.repeat([-0.1, 0.15], 4), [0] * 8])
    simulation = Simulation()
    simulation.reset(
        dataclasses.replace(layout, poses=poses.astype(np.float64), effector=np.array([0.2, -0.17]))
    )
    for _ in range(6):
        simulation.step(EAST)
    moved = simulation.layout().poses - poses
    assert 0.05 < moved[0, 1] < 0.12
    assert abs(moved[0, 0]) < 0.02
    assert not moved[1:].any()


def test_simulation_released_block_stops() -> None:
    simulation = simulated(lone_block(CUBE, (0.35, 0.0, 0.0), (0.35, -0.05)))
    for _ in range(4):
        simulation.step(EAST)
    simulation.step(-2 * EAST)
    left = simulation.layout().poses
    simulation.step(np.zeros(2))
    assert np.abs(simulation.layout().poses - left).max() < 1e-3


def test_simulation_push_off_centre_turns_a_banana() -> None:
    turned = {}
    for beside_m in (0.0, 0.05):
        pose, start = (0.35, 0.0, np.pi / 2), (0.35 + beside_m, -0.08)
        simulation = simulated(lone_block(BANANA, pose, start))
        for _ in range(7):
            simulation.step(EAST)
        assert simulation.layout().poses[0, 1] > 0.01
        turned[beside_m] = abs(float(simulation.layout().poses[0, 2]) - np.pi / 2)
    assert turned[0.0] < 0.05
    assert turned[0.05] > 0.4


@pytest.mark.parametrize("appearance", [SIM, REAL], ids=["sim", "real"])
def test_simulation_pushed_blocks_hardly_overlap(appearance: Appearance) -> None:
    rng = np.random.default_rng(0)
    simulation = Simulation(appearance=appearance)
    depths_m: list[float] = []
    for _ in range(8):
        simulation.reset(draw_layout(BLOCKS, rng))
        for step in range(60):
            if step % 5 == 0:
                block = simulation.layout().poses[rng.integers(8), :2]
                goal = block + 2 * (block - simulation.effector())
            way = goal - simulation.effector()
            simulation.step(way / max(1.0, float(np.hypot(*way)) / 0.03))
            depths_m.append(simulation.penetration_m())
    assert max(depths_m) > 0  # there was something to overlap
    assert np.percentile(depths_m, 99) < 0.002


def test_simulation_block_at_the_rim_is_held_and_can_be_pushed_back() -> None:
    simulation = simulated(lone_block(CUBE, (0.5, 0.0, 0.0), (0.42, 0.0)))
    walk_to(simulation, (0.62, 0.0))
    at_rim = simulation.layout().poses[0]
    assert at_rim[0] == pytest.approx(BLOCK_X_M[1], abs=2e-3)
    for spot in ((0.45, 0.0), (0.45, 0.1), (0.622, 0.1), (0.622, at_rim[1])):
        walk_to(simulation, (float(spot[0]), float(spot[1])))
    walk_to(simulation, (0.4, float(at_rim[1])))
    assert simulation.layout().poses[0, 0] < 0.42


def test_simulation_random_actions_keep_blocks_on_the_board() -> None:
    rng = np.random.default_rng(1)
    simulation = Simulation()
    simulation.reset(draw_layout(BLOCKS, rng))
    for _ in range(300):
        simulation.step(rng.uniform(-0.1, 0.1, 2))
    x, y, _ = simulation.layout().poses.T
    slack = 0.003
    assert ((x > BLOCK_X_M[0] - slack) & (x < BLOCK_X_M[1] + slack)).all()
    assert ((y > BLOCK_Y_M[0] - slack) & (y < BLOCK_Y_M[1] + slack)).all()


def test_simulation_held_up_effector_does_not_wind_up() -> None:
    simulation = simulated(lone_block(CUBE, (BLOCK_X_M[1], 0.0, 0.0), (0.5, 0.0)))
    for _ in range(20):
        simulation.step(np.array([0.01, 0.0]))
    pressed = simulation.effector()[0]
    simulation.step(np.array([-0.03, 0.0]))
    simulation.step(np.array([-0.03, 0.0]))
    assert simulation.effector()[0] < pressed - 0.03


def test_simulation_action_takes_effect_after_the_appearances_delay() -> None:
    start = lone_block(CUBE, (0.5, 0.2, 0.0), (0.3, 0.0))
    for appearance, first in ((SIM, EAST), (REAL, 0 * EAST)):
        simulation = simulated(start, appearance)
        simulation.step(EAST)
        assert simulation.effector() - start.effector == pytest.approx(first, abs=1e-3)
        simulation.step(0 * EAST)
        assert simulation.effector() - start.effector == pytest.approx(EAST, abs=1e-3)


def test_simulation_two_steps_at_10_hz_equal_one_at_5_hz() -> None:
    start = lone_block(CUBE, (0.5, 0.2, 0.0), (0.3, 0.0))
    slow, fast = simulated(start), simulated(start, control_hz=10)
    slow.step(EAST)
    fast.step(EAST)
    fast.step(0 * EAST)
    assert fast.effector() == pytest.approx(slow.effector(), abs=1e-9)


def test_simulation_camera_images_differ_between_appearances() -> None:
    layout = draw_layout(BLOCKS, np.random.default_rng(0))
    images = [
        simulated(layout, appearance).camera_image(96, 128).astype(int)
        for appearance in (SIM, REAL)
    ]
    assert np.abs(images[0] - images[1]).mean() > 20


def test_simulation_bad_input_is_refused() -> None:
    layout = draw_layout(BLOCKS, np.random.default_rng(0))
    simulation = Simulation()
    astray = layout.poses.copy()
    astray[3, 0] = 0.8
    with pytest.raises(EnvError, match=r"every block must stay on the board, got the blue cube"):
        simulation.reset(dataclasses.replace(layout, poses=astray))
    with pytest.raises(EnvError, match="must have the simulation's blocks"):
        simulation.reset(lone_block(CUBE, (0.4, 0.0, 0.0), (0.3, 0.0)))
    simulation.reset(layout)
    with pytest.raises(EnvError, match="an action must be finite"):
        simulation.step(np.array([np.nan, 0.0]))
    with pytest.raises(EnvError, match="control_hz must be 5 or 10, got 7"):
        Simulation(control_hz=7)
