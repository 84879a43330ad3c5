"""Do simulated robots hold 10 Hz on a machine whose learner is busy?

    python benchmarks/control_rate.py [--robots 64] [--actors 2] [--hz 10] [--seconds 1200]

Robots of the point mass practise in processes (`--fleet processes --fleet.hz 10`) with a background
check, while the learner updates a policy without a pause. One JSON line: `missed` of `periods`
control periods, `p50_ms` and `p99_ms` jitter of the worst actor over its latest 10,000 periods,
`updates_per_s` of the learner, `memory_mb` of all processes (proportional set size) after a tenth
of the time and at the end.
"""

import argparse
import json
import os
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from threading import Thread

import torch

from nearer.algorithm.batch import make_batch
from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.learner import Learner
from nearer.algorithm.model import Detector, FoundationModel, ModelPolicy
from nearer.algorithm.score import score
from nearer.core.control_clock import ClockSummary, ControlClock
from nearer.core.episode import Episode
from nearer.evaluation.ground_truth import GroundTruthRecorder
from nearer.fleets.actors.actor import RobotGroup, load_weights
from nearer.fleets.actors.background_check import BackgroundCheck, ReportedResets
from nearer.fleets.actors.control_log import ControlLog
from nearer.fleets.actors.processes import ProcessPool
from nearer.fleets.actors.source import ActorSource
from nearer.fleets.gym import make_fleet
from nearer.fleets.paced import PacedFleet
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig

ENV, MAX_STEPS = "nearer/PointMass-v0", 100


def group(robots: int, hz: float, ask: object = None) -> RobotGroup:
    """Return robots at a control rate with an untrained policy."""
    clock = ControlClock(1 / hz)
    fleet = make_fleet(ENV, robots)
    model = new_model("mlp", MLPConfig(), fleet.spaces, (), seed=0).eval()
    recorder = GroundTruthRecorder(PacedFleet(fleet, clock))
    check = BackgroundCheck(Detector(model=model, threshold_steps=0.0), robots)
    return RobotGroup(
        policy=ModelPolicy(model),
        load=partial(load_weights, model),
        fleet=ReportedResets(recorder, check),
        termination=check,
        max_steps=MAX_STEPS,
        recorded=recorder,
        clock=clock,
    )


class Latest(ControlLog):
    """Keeps what the clocks say last."""

    def __init__(self) -> None:
        self.summaries: list[ClockSummary] = []

    def report(self, iteration: int, summaries: Collection[ClockSummary]) -> None:
        """Keep the summaries of all actors."""
        self.summaries = list(summaries)


class BusyLearner(Thread):
    """Updates a policy of its own without a pause, on all samples of some episodes."""

    def __init__(self, policy: FoundationModel, episodes: list[Episode]) -> None:
        super().__init__(daemon=True)
        self.updates, self.over = 0, False
        scored = score(policy, episodes, threshold_steps=0, discount=0.9, success_bonus=0)
        self._samples = make_batch(scored)
        practice = Practice(updates_per_iteration=1, batch_size=len(self._samples))
        optimizer = torch.optim.AdamW(policy.parameters(), 1e-5)
        self._learner = Learner(practice, Deviations(), policy, optimizer)

    def run(self) -> None:
        """Update until it is over."""
        while not self.over:
            self._learner.learn(self._samples, self.updates)
            self.updates += 1


def memory_mb(process_ids: list[int]) -> float:
    """Return what processes take together; pages that several share count once."""
    kilobytes = 0
    for process_id in process_ids:
        for line in Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines():
            kilobytes += int(line.split()[1]) if line.startswith("Pss:") else 0
    return kilobytes / 1024


def main(robots: int, actors: int, hz: float, seconds: float) -> None:
    """Practise at a control rate, and print the JSON line."""
    torch.set_num_threads(1)
    control = Latest()
    pool = ProcessPool([partial(group, robots // actors, hz)] * actors, seed=0)
    source = ActorSource(pool, control=control)
    policy = group(1, hz).policy
    assert isinstance(policy, ModelPolicy), "robots have copies of the models"
    process_ids = [os.getpid(), *(pool.process_id(actor) for actor in range(actors))]
    learner: BusyLearner | None = None
    memory: list[float] = []
    begun, version = time.monotonic(), 0
    while time.monotonic() < begun + seconds:
        acted = list(source.episodes(policy, version, robots * MAX_STEPS // 4))
        source.forget()
        version += 1
        if learner is None:
            learner = BusyLearner(policy.model, acted)
            learner.start()
            started = time.monotonic()
        if time.monotonic() > begun + (seconds / 10 if not memory else seconds):
            memory.append(memory_mb(process_ids))
    assert learner is not None, "an iteration takes less than all the time"
    learner.over = True
    learner.join()
    memory.append(memory_mb(process_ids))
    summaries = control.summaries
    result = {
        "robots": robots,
        "actors": actors,
        "hz": hz,
        "missed": sum(summary.missed for summary in summaries),
        "periods": sum(summary.periods for summary in summaries),
        "p50_ms": round(max(summary.p50_ms for summary in summaries), 2),
        "p99_ms": round(max(summary.p99_ms for summary in summaries), 2),
        "updates_per_s": round(learner.updates / (time.monotonic() - started), 1),
        "memory_mb": [round(memory[0]), round(memory[-1])],
    }
    source.close()
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Do robots hold their control rate?")
    parser.add_argument("--robots", type=int, default=64)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--hz", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=1200)
    given = parser.parse_args()
    main(given.robots, given.actors, given.hz, given.seconds)
