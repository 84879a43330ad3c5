"""Faults of every kind at random into simulated robots; is an episode lost, doubled or shuffled?

    python benchmarks/fleet_faults.py [--fleet processes] [--robots 16] [--seconds 600]

One robot an actor. Each robot counts: it observes its episode's seed, the steps since reset, and
the action before, so that every transition can be checked where it arrives. It writes down each
episode that it starts. Kinds, drawn at random step by step:

    raises, nan        step raises an error, or observes no number
    hangs              step never returns
    disconnects        step and reset raise until a while is over
    frozen, blank      its camera shows the same image while it moves, or nothing at a start
    refuses            reset raises
    slow               a step takes twenty times as long, which is no fault
    exits              its process ends
    killed             its process is killed from outside

One JSON line: `lost` (episodes that robots started, less those that arrived or were reported as
dropped), `doubled` (arrived twice), `shuffled` (an observation, action or robot that is not the
episode's own), `injected`, `reported` (faults by kind as injected, and as the learner saw them),
`recover_s` (by kind as injected: median seconds until the robot's next episode arrives, the rest
before its restart included), `episodes`, `iterations`, `dropped`.
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import gymnasium
import numpy as np
import ray
import torch
from gymnasium.spaces import Box, Dict

from nearer.algorithm.model import Detector, ModelPolicy
from nearer.core.episode import Episode, Observation
from nearer.core.interfaces import Sensed, Starts
from nearer.core.spaces import Spaces
from nearer.evaluation.ground_truth import GroundTruthRecorder
from nearer.fleets.actors.actor import RobotGroup, load_weights
from nearer.fleets.actors.faults import Fault, FaultLog, FaultPlan
from nearer.fleets.actors.processes import ProcessPool
from nearer.fleets.actors.ray_cluster import RayPool
from nearer.fleets.actors.source import ActorSource
from nearer.fleets.cameras import WatchedCameras
from nearer.fleets.gym import make_fleet
from nearer.fleets.wrapper import FleetWrapper
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig

SPACES = Spaces(agent_pos=3, environment_state=0, action=1)
STEP_KINDS = ("raises", "nan", "hangs", "disconnects", "frozen", "slow", "exits")
START_KINDS = ("blank", "refuses")
STEP_S, MAX_STEPS, ENOUGH_A_ROBOT = 0.05, 20, 40
STEPS_A_FAULT, STARTS_A_FAULT, KILL_S = 900, 90, 20.0
DISCONNECTED_S, FROZEN_STEPS = 20.0, 8
PLAN = FaultPlan(step_s=3.0, reset_s=3.0, first_wait_s=0.5, frozen_steps=FROZEN_STEPS)


class CountingRobot(gymnasium.Env[Any, Any]):
    """A robot that counts and fails; `folder` outlives its process."""

    metadata: ClassVar[dict[str, Any]] = {"render_fps": 20}
    observation_space = Dict(
        {
            "agent_pos": Box(-np.inf, np.inf, (3,), np.float32),
            "pixels": Box(0, 255, (4, 4, 3), np.uint8),
        }
    )
    action_space = Box(-1e6, 1e6, (1,), np.float32)
    task = "count"

    def __init__(self, number: int, folder: Path) -> None:
        self._number, self._folder = number, folder
        self._rng = np.random.default_rng([number, os.getpid()])
        self._state = np.zeros(3, np.float32)
        self._image = np.zeros((4, 4, 3), np.uint8)
        self._frozen = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start to count, and write the episode down."""
        assert seed is not None, "an episode has a seed"
        self._check_connected()
        kind = self._draw(START_KINDS, STARTS_A_FAULT)
        if kind == "refuses":
            raise OSError("the arm is jammed")
        note(self._folder, "started", self._number, str(seed))
        self._state[:] = _short(seed), 0, 0
        self._frozen = False
        return self._observe(blank=kind == "blank"), {"is_success": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Count one."""
        time.sleep(STEP_S)
        self._check_connected()
        self._state[1] += 1
        self._state[2] = action[0]
        kind = self._draw(STEP_KINDS, STEPS_A_FAULT)
        if kind == "raises":
            raise OSError("the motor smokes")
        if kind == "hangs":
            time.sleep(3600)
        if kind == "slow":
            time.sleep(20 * STEP_S)
        if kind == "exits":
            os._exit(1)
        if kind == "disconnects":
            (self._folder / f"away-{self._number}").write_text(str(time.time() + DISCONNECTED_S))
            self._check_connected()
        self._frozen = self._frozen or kind == "frozen"
        observation = self._observe(blank=False)
        if kind == "nan":
            observation["agent_pos"][1] = np.nan
        return observation, 0.0, False, False, {"is_success": False}

    def _check_connected(self) -> None:
        away = self._folder / f"away-{self._number}"
        if away.exists() and time.time() < float(away.read_text()):
            raise ConnectionError("the robot does not answer")

    def _draw(self, kinds: Sequence[str], calls_a_fault: int) -> str:
        if self._rng.random() > 1 / calls_a_fault:
            return ""
        kind = str(self._rng.choice(kinds))
        note(self._folder, "injected", self._number, f"{kind} {time.time()}")
        return kind

    def _observe(self, *, blank: bool) -> dict[str, Any]:
        if not self._frozen:
            self._image[0] = 1 + int(self._state[1])
        image = np.zeros_like(self._image) if blank else self._image.copy()
        return {"agent_pos": self._state.copy(), "pixels": image}


def note(folder: Path, what: str, number: int, line: str) -> None:
    """Write down what happens to a robot."""
    with (folder / f"{what}-{number}").open("a") as file:
        file.write(line + "\n")


class WithoutImages(FleetWrapper):
    """A fleet for a policy without cameras: images have been checked and are dropped."""

    def reset(self, robots: Any, seeds: Sequence[int]) -> Starts:
        """Reset the robots."""
        starts = super().reset(robots, seeds)
        return Starts(
            observation=_without_images(starts.observation), instructions=starts.instructions
        )

    def step(self, robots: Any, actions: Any) -> Sensed:
        """Step the robots."""
        sensed = super().step(robots, actions)
        return Sensed(observation=_without_images(sensed.observation), env_ended=sensed.env_ended)


def _without_images(observation: Any) -> Observation:
    return Observation(
        agent_pos=observation.agent_pos, environment_state=observation.environment_state
    )


def _short(seed: int) -> int:
    """Return a seed as a number that float32 holds."""
    return seed % 2**20


def group(number: int, folder: Path, ask: object = None) -> RobotGroup:
    """Return one robot with an untrained policy."""
    model = new_model("mlp", MLPConfig(hidden=16), SPACES, (), seed=0).eval()
    fleet = make_fleet(partial(CountingRobot, number, folder), 1)
    recorder = GroundTruthRecorder(WithoutImages(WatchedCameras(fleet, FROZEN_STEPS)))
    return RobotGroup(
        policy=ModelPolicy(model),
        load=partial(load_weights, model),
        fleet=recorder,
        termination=Detector(model=model, threshold_steps=0.0),
        max_steps=MAX_STEPS,
        recorded=recorder,
    )


class Reported(FaultLog):
    """Keeps faults with the time at which they were reported."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[tuple[float, Fault]] = []

    def report(self, fault: Fault) -> None:
        """Keep a fault."""
        self.faults.append((time.time(), fault))


def is_shuffled(episode: Episode) -> bool:
    """Return whether a transition is not the episode's own."""
    seeds, counts, before = episode.observations.agent_pos.T
    return not (
        (seeds == _short(episode.seed)).all()
        and (counts == np.arange(episode.num_steps + 1)).all()
        and (before[1:] == episode.actions[:, 0]).all()
    )


def lines(folder: Path, what: str, number: int) -> list[str]:
    """Return what a robot has written down."""
    path = folder / f"{what}-{number}"
    return path.read_text().splitlines() if path.exists() else []


def recoveries(
    folder: Path, reported: Reported, arrived: dict[int, list[float]], robots: int
) -> dict[str, list[float]]:
    """Return by kind how long it took from each fault that was reported to the next episode."""
    injected = {
        number: [
            (float(at), kind) for kind, at in map(str.split, lines(folder, "injected", number))
        ]
        for number in range(robots)
    }
    taken: dict[str, list[float]] = defaultdict(list)
    for at, fault in reported.faults:
        before = [(when, kind) for when, kind in injected[fault.actor] if when <= at]
        later = [when for when in arrived[fault.actor] if when > at]
        if later:
            when, kind = before[-1]
            taken[kind].append(later[0] - when)
    return taken


def kill(pool: ProcessPool | RayPool, actor: int, folder: Path) -> None:
    """Kill an actor from outside, unless it rests after a fault."""
    with suppress(KeyError):
        if isinstance(pool, ProcessPool):
            end = partial(os.kill, pool.process_id(actor), 9)
        else:
            end = partial(ray.kill, pool.handle(actor))
        note(folder, "injected", actor, f"killed {time.time()}")
        end()


def main(fleet: str, robots: int, seconds: float) -> None:
    """Practise under faults, check every episode, and print the JSON line."""
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    groups = [partial(group, number, folder) for number in range(robots)]
    pool: ProcessPool | RayPool = (
        ProcessPool(groups, 0) if fleet == "processes" else RayPool(groups, 0)
    )
    reported = Reported()
    source = ActorSource(pool, PLAN, reported)
    policy = group(robots, folder).policy
    seen: Counter[int] = Counter()
    arrived: dict[int, list[float]] = defaultdict(list)
    shuffled, iteration = 0, 0
    begun = killed_at = time.monotonic()
    rng = np.random.default_rng(0)
    while time.monotonic() < begun + seconds:
        for episode in source.episodes(policy, iteration, ENOUGH_A_ROBOT * robots):
            seen[episode.seed] += 1
            arrived[episode.robot].append(time.time())
            shuffled += is_shuffled(episode) or episode.policy_version != iteration
            if time.monotonic() > killed_at + KILL_S:
                killed_at = time.monotonic()
                kill(pool, int(rng.integers(robots)), folder)
        iteration += 1
    source.close()
    started = [seed for number in range(robots) for seed in lines(folder, "started", number)]
    dropped = sum(fault.dropped_episodes for _, fault in reported.faults)
    missing = len(set(map(int, started)) - set(seen))
    injected = Counter(
        line.split()[0] for number in range(robots) for line in lines(folder, "injected", number)
    )
    taken = recoveries(folder, reported, arrived, robots)
    result = {
        "fleet": fleet,
        "robots": robots,
        "lost": max(0, missing - dropped),
        "doubled": sum(count - 1 for count in seen.values()),
        "shuffled": shuffled,
        "injected": dict(injected),
        "reported": dict(Counter(fault.kind for _, fault in reported.faults)),
        "recover_s": {kind: round(median(values), 1) for kind, values in sorted(taken.items())},
        "episodes": len(seen),
        "iterations": iteration,
        "dropped": dropped,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Faults of every kind into a fleet.")
    parser.add_argument("--fleet", choices=("processes", "ray"), default="processes")
    parser.add_argument("--robots", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=600)
    given = parser.parse_args()
    main(given.fleet, given.robots, given.seconds)
