"""Practice steps a second: in lockstep, in 1 and 2 processes, on 1 and 2 Ray actors.

    python benchmarks/fleet.py [--rounds 5] [--robots 16] [--no-ray] [--env images states]

One JSON line, `images` (tabletop, an untrained small-vla: rendering, encoding, deciding, checking)
and `states` (point mass, an untrained mlp), each with decisions a second of `lockstep`,
`processes_1`, `ray_1` and, with the same number of robots in all, `processes_2`, `ray_2`; with so
many robots an actor, `processes_2_full`, `ray_2_full` (medians of the rounds). Ratios, measured in
turn (medians of the rounds' ratios): `processes_over_one` (2 processes over lockstep),
`processes_efficiency` and `ray_efficiency` (2 over twice 1), `processes_efficiency_full` and
`ray_efficiency_full` (2 full ones over twice 1).
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from nearer.algorithm.model import Detector, FoundationModel, ModelPolicy
from nearer.algorithm.rollout import EpisodeSource, LockstepSource
from nearer.core.interfaces import Policy
from nearer.envs.tabletop.language import vocabulary
from nearer.evaluation.ground_truth import GroundTruthRecorder
from nearer.fleets.actors.actor import RobotGroup, load_weights
from nearer.fleets.actors.processes import ProcessPool
from nearer.fleets.actors.ray_cluster import RESOURCE, RayPool
from nearer.fleets.actors.source import ActorSource
from nearer.fleets.for_model import fitting_fleet
from nearer.fleets.gym import make_fleet
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig

ENVS = {"images": "nearer/TabletopBlock2Block-v0", "states": "nearer/PointMass-v0"}
MAX_STEPS = 30
STEPS = {"images": 960, "states": 19_200}


def new(kind: str) -> FoundationModel:
    """Return an untrained model."""
    fleet = make_fleet(ENVS[kind], 1)
    spaces = fleet.spaces
    fleet.close()
    if kind == "states":
        return new_model("mlp", MLPConfig(), spaces, (), seed=0).eval()
    return new_model("small-vla", SmallVLAConfig(), spaces, vocabulary(), seed=0).eval()


def group(kind: str, robots: int, ask: object = None) -> RobotGroup:
    """Return robots with an untrained policy."""
    model = new(kind)
    fleet = fitting_fleet(ENVS[kind], robots, model, model)
    recorder = GroundTruthRecorder(fleet, recording=False)
    return RobotGroup(
        policy=ModelPolicy(model),
        load=partial(load_weights, model),
        fleet=recorder,
        termination=Detector(model=model, threshold_steps=0.0),
        max_steps=MAX_STEPS,
        recorded=recorder,
    )


def steps_per_s(source: EpisodeSource, policy: Policy, version: int, steps: int) -> float:
    """Return how many decisions a second the robots of a source take."""
    begun = time.perf_counter()
    taken = sum(episode.num_steps for episode in source.episodes(policy, version, steps))
    return taken / (time.perf_counter() - begun)


def measured(kind: str, rounds: int, robots: int, with_ray: bool) -> Mapping[str, float]:
    """Return the numbers of one env."""
    here = group(kind, robots)
    sources: dict[str, Any] = {
        "lockstep": LockstepSource(
            fleet=here.fleet, termination=here.termination, max_steps=MAX_STEPS, seed=0
        )
    }
    for name, count, of_each in (("1", 1, robots), ("2", 2, robots // 2), ("2_full", 2, robots)):
        groups = [partial(group, kind, of_each)] * count
        sources[f"processes_{name}"] = ActorSource(ProcessPool(groups, 0))
        if with_ray:
            sources[f"ray_{name}"] = ActorSource(RayPool(groups, 0))
    rates: dict[str, list[float]] = {name: [] for name in sources}
    for version in range(rounds + 1):
        for name, source in sources.items():
            rate = steps_per_s(source, here.policy, version, STEPS[kind])
            rates[name] += [rate] if version else []  # the first round warms up
    for name, source in sources.items():
        if name != "lockstep":
            source.close()

    def ratio(over: str, under: str, times: float) -> float:
        pairs = zip(rates[over], rates[under], strict=True)
        return round(median(one / other / times for one, other in pairs), 3)

    result = {name: round(median(values), 1) for name, values in rates.items()}
    result["processes_over_one"] = ratio("processes_2", "lockstep", 1)
    for fleet in ("processes", "ray") if with_ray else ("processes",):
        for full in ("", "_full"):
            result[f"{fleet}_efficiency{full}"] = ratio(f"{fleet}_2{full}", f"{fleet}_1", 2)
    return result


def main(rounds: int, robots: int, with_ray: bool, kinds: Sequence[str]) -> None:
    """Measure all in turn, and print the JSON line."""
    torch.set_num_threads(1)
    if with_ray:
        import ray

        here = str(Path(__file__).parent)
        paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
        environment = {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}}
        ray.init("local", resources={RESOURCE: 5}, include_dashboard=False, runtime_env=environment)
    print(json.dumps({kind: measured(kind, rounds, robots, with_ray) for kind in kinds}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Practice steps a second of every fleet.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--robots", type=int, default=16)
    parser.add_argument("--no-ray", action="store_true")
    parser.add_argument("--env", nargs="+", choices=list(ENVS), default=list(ENVS))
    given = parser.parse_args()
    main(given.rounds, given.robots, not given.no_ray, given.env)
