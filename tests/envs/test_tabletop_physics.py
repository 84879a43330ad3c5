"""The tabletop's physics: shapes, pushing, the rim, the delay of the real look, the camera."""

import dataclasses

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import REAL, SIM, Look
from nearer.envs.tabletop.layout import (
    BANANA,
    BLOCK_HEIGHT_M,
    BLOCK_X_M,
    BLOCK_Y_M,
    BLOCKS,
    WORKSPACE_X_M,
    Block,
    Layout,
)
from nearer.envs.tabletop.meshes import Shape, block_mesh, radius_of_gyration_m, shape
from nearer.envs.tabletop.simulation import Simulation
from nearer.envs.tabletop.tasks import draw_layout

CUBE = Block("blue", "cube")
EAST = np.array([0.0, 0.02])


def lone(block: Block, pose: tuple[float, float, float], effector: tuple[float, float]) -> Layout:
    return Layout(blocks=(block,), poses=np.array([pose]), effector=np.array(effector))


def simulated(layout: Layout, look: Look = SIM, control_hz: int = 5) -> Simulation:
    simulation = Simulation(layout.blocks, look, control_hz)
    simulation.reset(layout)
    return simulation


def walk_to(simulation: Simulation, goal: tuple[float, float], longest_m: float = 0.04) -> None:
    for _ in range(40):
        way = np.array(goal) - simulation.effector()
        simulation.step(way / max(1.0, float(np.hypot(*way)) / longest_m))


def area(polygon: Array) -> float:
    x, y = polygon.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def turns(polygon: Array) -> Array:
    edges = np.roll(polygon, -1, axis=0) - polygon
    ahead = np.roll(edges, -1, axis=0)
    return edges[:, 0] * ahead[:, 1] - edges[:, 1] * ahead[:, 0]


@pytest.mark.parametrize("name", ["cube", "pentagon", "star", "moon", "banana"])
def test_pieces_are_convex_and_make_up_the_shape(name: str) -> None:
    form: Shape = shape(name)
    pieces = [form.points[list(piece)] for piece in form.pieces]
    assert all((turns(piece) > 0).all() for piece in pieces)
    assert sum(map(area, pieces)) == pytest.approx(area(form.outline))


def test_a_star_and_a_moon_are_hollow_and_a_cube_is_37_mm() -> None:
    assert (turns(shape("star").outline) < 0).sum() == 5
    assert (turns(shape("moon").outline) < 0).sum() == 7
    assert np.ptp(shape("cube").outline, axis=0) == pytest.approx(0.037)
    assert radius_of_gyration_m("cube") == pytest.approx(0.037 / np.sqrt(6))


@pytest.mark.parametrize("chamfer_m", [0.0, 0.0015])
def test_meshes_face_outwards(chamfer_m: float) -> None:
    for name in ("cube", "pentagon", "star", "moon", "banana"):
        mesh = block_mesh(name, chamfer_m)
        a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
        volume = float((a * np.cross(b, c)).sum()) / 6
        assert 1.5e-5 < volume < 1e-4  # the bottom lies at z = 0 and adds nothing


def test_a_block_is_pushed_ahead_and_its_neighbours_stay() -> None:
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


def test_a_block_that_is_left_alone_stops() -> None:
    simulation = simulated(lone(CUBE, (0.35, 0.0, 0.0), (0.35, -0.05)))
    for _ in range(4):
        simulation.step(EAST)
    simulation.step(-2 * EAST)
    left = simulation.layout().poses
    simulation.step(np.zeros(2))
    assert np.abs(simulation.layout().poses - left).max() < 1e-3


def test_a_banana_turns_when_it_is_pushed_off_its_centre() -> None:
    turned = {}
    for beside_m in (0.0, 0.05):
        pose, start = (0.35, 0.0, np.pi / 2), (0.35 + beside_m, -0.08)
        simulation = simulated(lone(BANANA, pose, start))
        for _ in range(7):
            simulation.step(EAST)
        assert simulation.layout().poses[0, 1] > 0.01
        turned[beside_m] = abs(float(simulation.layout().poses[0, 2]) - np.pi / 2)
    assert turned[0.0] < 0.05
    assert turned[0.05] > 0.4


@pytest.mark.parametrize("look", [SIM, REAL])
def test_blocks_do_not_overlap_when_they_are_pushed_about(look: Look) -> None:
    draw = np.random.default_rng(0)
    simulation = Simulation(look=look)
    depths_m: list[float] = []
    for _ in range(8):
        simulation.reset(draw_layout(BLOCKS, draw))
        for step in range(60):
            if step % 5 == 0:
                block = simulation.layout().poses[draw.integers(8), :2]
                goal = block + 2 * (block - simulation.effector())
            way = goal - simulation.effector()
            simulation.step(way / max(1.0, float(np.hypot(*way)) / 0.03))
            depths_m.append(simulation.penetration_m())
    assert max(depths_m) > 0  # there was something to overlap
    assert np.percentile(depths_m, 99) < 0.002


def test_the_rim_holds_a_block_and_the_effector_fetches_it_back() -> None:
    simulation = simulated(lone(CUBE, (0.5, 0.0, 0.0), (0.42, 0.0)))
    walk_to(simulation, (0.62, 0.0))
    at_rim = simulation.layout().poses[0]
    assert at_rim[0] == pytest.approx(BLOCK_X_M[1], abs=2e-3)
    for spot in ((0.45, 0.0), (0.45, 0.1), (0.622, 0.1), (0.622, at_rim[1])):
        walk_to(simulation, (float(spot[0]), float(spot[1])))
    walk_to(simulation, (0.4, float(at_rim[1])))
    assert simulation.layout().poses[0, 0] < 0.42


def test_blocks_stay_on_the_board_whatever_is_done() -> None:
    draw = np.random.default_rng(1)
    simulation = Simulation()
    simulation.reset(draw_layout(BLOCKS, draw))
    for _ in range(300):
        simulation.step(draw.uniform(-0.1, 0.1, 2))
    x, y, _ = simulation.layout().poses.T
    slack = 0.003
    assert ((x > BLOCK_X_M[0] - slack) & (x < BLOCK_X_M[1] + slack)).all()
    assert ((y > BLOCK_Y_M[0] - slack) & (y < BLOCK_Y_M[1] + slack)).all()


def test_a_held_up_effector_is_not_wound_up() -> None:
    simulation = simulated(lone(CUBE, (BLOCK_X_M[1], 0.0, 0.0), (0.5, 0.0)))
    for _ in range(20):
        simulation.step(np.array([0.01, 0.0]))
    pressed = simulation.effector()[0]
    simulation.step(np.array([-0.03, 0.0]))
    simulation.step(np.array([-0.03, 0.0]))
    assert simulation.effector()[0] < pressed - 0.03


def test_an_action_takes_effect_at_once_in_sim_and_a_step_later_in_real() -> None:
    start = lone(CUBE, (0.5, 0.2, 0.0), (0.3, 0.0))
    for look, first in ((SIM, EAST), (REAL, 0 * EAST)):
        simulation = simulated(start, look)
        simulation.step(EAST)
        assert simulation.effector() - start.effector == pytest.approx(first, abs=1e-3)
        simulation.step(0 * EAST)
        assert simulation.effector() - start.effector == pytest.approx(EAST, abs=1e-3)


def test_two_steps_at_10_hz_are_one_at_5_hz() -> None:
    start = lone(CUBE, (0.5, 0.2, 0.0), (0.3, 0.0))
    slow, fast = simulated(start), simulated(start, control_hz=10)
    slow.step(EAST)
    fast.step(EAST)
    fast.step(0 * EAST)
    assert fast.effector() == pytest.approx(slow.effector(), abs=1e-9)


@pytest.mark.parametrize(("look", "size"), [(SIM, (96, 128)), (REAL, (180, 320)), (SIM, (96, 96))])
def test_blocks_are_seen_where_the_camera_projects_them(look: Look, size: tuple[int, int]) -> None:
    layout = draw_layout(BLOCKS, np.random.default_rng(6))
    layout = dataclasses.replace(layout, effector=np.array([WORKSPACE_X_M[1], 0.3]))
    simulation = Simulation(look=look)
    simulation.reset(layout)
    picture = simulation.picture(*size).astype(np.float64)
    for block, (x, y, _) in zip(layout.blocks, layout.poses, strict=True):
        if block.shape == "moon":  # its centre lies at the edge of its hollow
            continue
        point = np.array([x, y, BLOCK_HEIGHT_M])
        column, row = look.camera.project(point, *size)
        seen = picture[int(row), int(column)] / 255
        nearest = min(
            look.colours, key=lambda name: float(np.hypot.reduce(seen - look.colours[name]))
        )
        assert nearest == block.colour


def test_the_two_looks_look_different() -> None:
    layout = draw_layout(BLOCKS, np.random.default_rng(0))
    pictures = [simulated(layout, look).picture(96, 128).astype(int) for look in (SIM, REAL)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 20


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    layout = draw_layout(BLOCKS, np.random.default_rng(0))
    simulation = Simulation()
    astray = layout.poses.copy()
    astray[3, 0] = 0.8
    with pytest.raises(EnvError, match=r"every block must stay on the board, got the blue cube"):
        simulation.reset(dataclasses.replace(layout, poses=astray))
    with pytest.raises(EnvError, match="must have the simulation's blocks"):
        simulation.reset(lone(CUBE, (0.4, 0.0, 0.0), (0.3, 0.0)))
    simulation.reset(layout)
    with pytest.raises(EnvError, match="an action must be finite"):
        simulation.step(np.array([np.nan, 0.0]))
    with pytest.raises(EnvError, match="control_hz must be 5 or 10, got 7"):
        Simulation(control_hz=7)
