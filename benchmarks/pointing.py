"""Accuracy and speed of the built-in vision encoder; the last line printed is one JSON object.

    python benchmarks/pointing.py [--weights FOLDER] [--scenes 500] [--frames 400]

Keys: those of models/pointing/pretraining/measure.py (scenes of the pretraining kind, not trained
on, in pixels); ms_per_frame_8 and _32, all included, CPU time of one thread. And for tabletop
frames, which no training used, with the appearance's name in front: named_mm_median, named_mm_p90,
wrong, near_mm_median and near_mm_p90 (the effector within 4 cm of the named block), near_n,
effector_mm_median, effector_mm_p90, effector_near_mm_median, effector_near_mm_p90, n.
Millimetres are on the board, through the simulator's camera, and that is all it is used for.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nearer.core.arrays import Array
from nearer.envs.tabletop.appearance import APPEARANCES, Appearance
from nearer.envs.tabletop.camera import PinholeCamera
from nearer.envs.tabletop.layout import BLOCK_X_M, BLOCK_Y_M, BLOCKS, BlockLayout
from nearer.envs.tabletop.simulation import Simulation
from nearer.models.pointing.pretraining.measure import measure
from nearer.models.pointing.tower import PointingTower
from nearer.models.pointing.weights import LITE0, load_pointing

HEIGHT_PX, WIDTH_PX, BATCH = 96, 128, 25
APART_M, NEAR_M, TOUCHING_M = 0.055, 0.04, 0.031


@dataclass(frozen=True, slots=True, kw_only=True)
class PointingError:
    """Errors of one encoded frame, in metres, and how close the effector was."""

    named: float
    wrong: bool
    near_named: bool
    effector: float
    near_any: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=LITE0)
    parser.add_argument("--scenes", type=int, default=500, help="of each kind")
    parser.add_argument("--frames", type=int, default=400, help="of each appearance")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tower = load_pointing(options.weights)
    measured: dict[str, float] = {}
    for appearance in APPEARANCES.values():
        measured |= tabletop_errors(tower, appearance, options.frames)
    measured |= measure(tower, options.scenes, seed=1)
    measured |= {f"ms_per_frame_{batch}": milliseconds(tower, batch) for batch in (8, 32)}
    print(json.dumps({name: round(value, 4) for name, value in measured.items()}))


def tabletop_errors(
    tower: PointingTower, appearance: Appearance, num_frames: int
) -> dict[str, float]:
    rng = np.random.default_rng(4242)
    simulation = Simulation(appearance=appearance)
    errors: list[PointingError] = []
    for start in range(0, num_frames, BATCH):
        layouts = [random_layout(rng, start + i) for i in range(BATCH)]
        images: list[Array] = []
        for layout in layouts:
            simulation.reset(layout)
            images.append(simulation.camera_image(HEIGHT_PX, WIDTH_PX))
        pairs = [rng.choice(len(BLOCKS), 2, replace=False) for _ in layouts]
        sentences = [f"push the {BLOCKS[a]} to the {BLOCKS[b]}" for a, b in pairs]
        points = tower.locate(torch.from_numpy(np.stack(images)), sentences).numpy()
        uv = points.reshape(-1, 3, 3)[..., :2]
        on_board = [to_board(appearance.camera, row) for row in uv]
        for layout, pair, points in zip(layouts, pairs, on_board, strict=True):
            errors += [
                pointing_error(layout, int(pair[slot]), points[[slot, 2]]) for slot in (0, 1)
            ]
    return {f"{appearance.name}_{name}": value for name, value in summary(errors).items()}


def random_layout(rng: np.random.Generator, number: int) -> BlockLayout:
    """Return a random layout of eight blocks; in every other one the effector touches a block."""
    low, high = np.array([BLOCK_X_M, BLOCK_Y_M], np.float64).T
    centres: list[Array] = []
    while len(centres) < len(BLOCKS):
        spot = low + (high - low) * rng.random(2)
        if not centres or apart(np.stack(centres), spot).min() > APART_M:
            centres.append(spot)
    while True:
        effector = low + (high - low) * rng.random(2)
        if number % 2:
            angle, far = rng.uniform(-np.pi, np.pi), rng.uniform(TOUCHING_M, NEAR_M)
            beside = np.array([np.cos(angle), np.sin(angle)])
            effector = centres[int(rng.integers(len(centres)))] + far * beside
        if apart(np.stack(centres), effector).min() > TOUCHING_M:
            break
    yaws = rng.uniform(-np.pi, np.pi, (len(BLOCKS), 1))
    poses = np.concatenate([np.stack(centres), yaws], axis=1)
    return BlockLayout(blocks=BLOCKS, poses=poses, effector=effector)


def to_board(camera: PinholeCamera, uv: Array) -> Array:
    """Return x, y on the board, in metres, of these image points u, v."""
    focal = 0.5 / np.tan(camera.field_of_view_rad / 2)  # in image heights
    right = (uv[:, 0] - 0.5) * WIDTH_PX / HEIGHT_PX / focal
    up = (0.5 - uv[:, 1]) / focal
    rays = np.stack([right, up, -np.ones(len(uv))], axis=1) @ camera.axes()
    position = np.array(camera.position_m)
    return (position - rays * position[2] / rays[:, 2:])[:, :2]


def pointing_error(layout: BlockLayout, block: int, points: Array) -> PointingError:
    centres = layout.poses[:, :2]
    errors = apart(centres, points[0])
    to_effector = apart(centres, layout.effector)
    return PointingError(
        named=float(errors[block]),
        wrong=bool(errors.argmin() != block),
        near_named=bool(to_effector[block] <= NEAR_M),
        effector=float(apart(points[1:], layout.effector)[0]),
        near_any=bool(to_effector.min() <= NEAR_M),
    )


def apart(points: Array, point: Array) -> Array:
    return np.sqrt(((points - point) ** 2).sum(axis=1))


def summary(errors: Sequence[PointingError]) -> dict[str, float]:
    groups = {
        "named": [error.named for error in errors],
        "near": [error.named for error in errors if error.near_named],
        "effector": [error.effector for error in errors],
        "effector_near": [error.effector for error in errors if error.near_any],
    }
    quantiles: dict[str, float] = {"n": len(errors), "near_n": len(groups["near"])}
    for name, metres in groups.items():
        quantiles[f"{name}_mm_median"] = 1000 * float(np.median(metres))
        quantiles[f"{name}_mm_p90"] = 1000 * float(np.quantile(metres, 0.9))
    return quantiles | {"wrong": float(np.mean([error.wrong for error in errors]))}


def milliseconds(tower: PointingTower, batch: int, repeats: int = 20) -> float:
    images = torch.zeros(batch, HEIGHT_PX, WIDTH_PX, 3, dtype=torch.uint8)
    took: list[float] = []
    for _ in range(repeats):
        start = time.process_time()
        tower.locate(images, ["push the red moon to the blue cube"] * batch)
        took.append(time.process_time() - start)
    return 1000 * float(np.median(took[2:])) / batch


if __name__ == "__main__":
    main()
