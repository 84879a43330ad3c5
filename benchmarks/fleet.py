"""Practice steps a second: robots in lockstep in this process, and in processes of their own.

    python benchmarks/fleet.py [--rounds 5] [--processes 2] [--robots 16]

One JSON line: `lockstep_steps_per_s`, `processes_steps_per_s` (medians of the rounds),
`processes_over_one`: the median of the rounds' ratios, measured in turn. Steps are decisions of an
untrained small-vla on the tabletop: rendering, encoding, deciding, the detector's check.
"""

import argparse
import json
import time
from functools import partial
from statistics import median

import torch

from nearer.algorithm.model import Detector, ModelPolicy
from nearer.algorithm.rollout import EpisodeSource, LockstepSource
from nearer.core.interfaces import Policy
from nearer.envs.tabletop.language import vocabulary
from nearer.evaluation.ground_truth import GroundTruthRecorder
from nearer.fleets.actors.actor import RobotGroup, load_weights
from nearer.fleets.actors.processes import ProcessPool
from nearer.fleets.actors.source import ActorSource
from nearer.fleets.for_model import fitting_fleet
from nearer.fleets.gym import make_fleet
from nearer.models.factory import new_model
from nearer.models.settings import SmallVLAConfig

ENV = "nearer/TabletopBlock2Block-v0"
MAX_STEPS, STEPS = 30, 960


def group(robots: int, ask: object = None) -> RobotGroup:
    """Return robots with an untrained policy."""
    fleet = make_fleet(ENV, 1)
    spaces = fleet.spaces
    fleet.close()
    model = new_model("small-vla", SmallVLAConfig(), spaces, vocabulary(), seed=0).eval()
    recorder = GroundTruthRecorder(fitting_fleet(ENV, robots, model, model), recording=False)
    return RobotGroup(
        policy=ModelPolicy(model),
        load=partial(load_weights, model),
        fleet=recorder,
        termination=Detector(model=model, threshold_steps=0.0),
        max_steps=MAX_STEPS,
        recorded=recorder,
    )


def steps_per_s(source: EpisodeSource, policy: Policy, version: int) -> float:
    """Return how many decisions a second the robots of a source take."""
    begun = time.perf_counter()
    steps = sum(episode.num_steps for episode in source.episodes(policy, version, STEPS))
    return steps / (time.perf_counter() - begun)


def main(rounds: int, processes: int, robots: int) -> None:
    """Measure both in turn, and print the JSON line."""
    torch.set_num_threads(1)
    here = group(robots)
    policy = here.policy
    lockstep = LockstepSource(
        fleet=here.fleet, termination=here.termination, max_steps=MAX_STEPS, seed=0
    )
    apart = ActorSource(ProcessPool([partial(group, robots // processes)] * processes, seed=0))
    measured = [
        (steps_per_s(lockstep, policy, version), steps_per_s(apart, policy, version))
        for version in range(rounds + 1)
    ][1:]  # the first round warms up
    apart.close()
    result = {
        "lockstep_steps_per_s": round(median(one for one, _ in measured), 1),
        "processes_steps_per_s": round(median(more for _, more in measured), 1),
        "processes_over_one": round(median(more / one for one, more in measured), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--robots", type=int, default=16)
    given = parser.parse_args()
    main(given.rounds, given.processes, given.robots)
