"""A slow model at a control rate: does the robot stand still, and what does it cost in success?

    python benchmarks/decide_ahead.py [--hz 50] [--delay-steps 3] [--ahead 4] [--episodes 200]
        [--practice-steps 400000]

The point mass, a policy that decides on chunks of ten control steps (collected and trained here).
Its decisions take `delay-steps` control periods, as 300 ms do at 10 Hz. One JSON line, for `fast`
(no delay), `slow` (each chunk is decided when the last one has ended), `ahead` (`--fleet.decide-
ahead`) and `practised` (ahead, after Stage 2 has practised that way): `success` of `episodes` with
its 95 % interval, `idle_steps` a hundred control steps in which the robot stood still (gaps between
its steps of more than one and a half periods), and `steps`, the mean of control steps until
success.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nearer.algorithm.improve_settings import Practice
from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.algorithm.rollout import rollout
from nearer.algorithm.sft_settings import SFTTraining
from nearer.commands.collect import collect_demonstrations
from nearer.commands.improve import run_improve
from nearer.commands.sft import run_sft
from nearer.configs.collect import CollectConfig
from nearer.configs.fleet import FleetSettings
from nearer.configs.improve import ImproveConfig
from nearer.configs.sft import Calibration, SFTConfig
from nearer.core.action_chunks import Chunking
from nearer.core.control_clock import ControlClock
from nearer.core.episode import Ended
from nearer.core.interfaces import Decision, Fleet, Policy, Sensed, Starts
from nearer.core.intervals import Rate
from nearer.core.seeds import Purpose, episode_seeds
from nearer.evaluation.ground_truth import GroundTruthTermination
from nearer.fleets.chunked import in_chunks
from nearer.fleets.decide_ahead import AheadFleet, whole_chunks
from nearer.fleets.gym import make_fleet
from nearer.fleets.paced import PacedFleet
from nearer.fleets.wrapper import FleetWrapper
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model

ENV, CHUNK, MAX_STEPS = "nearer/PointMass-v0", 10, 200


class Timed(FleetWrapper):
    """Notes when each control step begins."""

    def __init__(self, fleet: Fleet, period_s: float) -> None:
        super().__init__(fleet)
        self.steps, self.idle = 0, 0
        self._period_s = period_s
        self._last_s: float | None = None

    def reset(self, robots: Any, seeds: Sequence[int]) -> Starts:
        """Reset the robot: what comes before the first step is no gap."""
        self._last_s = None
        return super().reset(robots, seeds)

    def step(self, robots: Any, actions: Any) -> Sensed:
        """Step the robot."""
        now_s = time.monotonic()
        if self._last_s is not None:
            self.idle += max(0, round((now_s - self._last_s) / self._period_s) - 1)
        self._last_s = now_s
        self.steps += 1
        return super().step(robots, actions)


class Slow:
    """A policy that takes its time."""

    def __init__(self, policy: Policy, delay_s: float) -> None:
        self._policy, self._delay_s = policy, delay_s

    def begin(self, *arguments: Any) -> None:
        """Begin episodes."""
        self._policy.begin(*arguments)

    def act(self, *arguments: Any) -> Decision:
        """Decide at the end of the delay."""
        until_s = time.monotonic() + self._delay_s
        decision = self._policy.act(*arguments)
        time.sleep(max(0.0, until_s - time.monotonic()))
        return decision


def trained(folder: Path) -> Path:
    """Return a Stage-1 run whose policy decides on chunks."""
    data = folder / "data"
    collect_demonstrations(CollectConfig(env=ENV, out=data, episodes=2000, num_envs=200, seed=0))
    config = SFTConfig(
        data=str(data),
        model="mlp",
        out=folder / "sft",
        chunking=Chunking(chunk=CHUNK),
        training=SFTTraining(updates=2048, validate_every=256),
        calibration=Calibration(env=ENV, rollouts=200),
    )
    return run_sft(config)


def practised(sft: Path, ahead: int, env_steps: int) -> Path:
    """Return a Stage-2 run whose robots decided ahead, as fast as they could."""
    return run_improve(
        ImproveConfig(
            run=sft,
            env=ENV,
            out=sft.with_name("practice"),
            num_envs=2,
            fleet="processes",
            fleet_settings=FleetSettings(processes=2, decide_ahead=ahead),
            practice=Practice(
                max_env_steps=env_steps,
                updates_per_iteration=8,
                batch_size=128,
                learning_rate=2e-4,
                max_steps=MAX_STEPS,
            ),
        )
    )


def measured(
    model: FoundationModel, hz: float, delay_steps: float, ahead: int, episodes: int
) -> dict[str, Any]:
    """Return success and idle steps of one way to decide."""
    timed = Timed(PacedFleet(make_fleet(ENV, 1), ControlClock(1 / hz)), 1 / hz)
    chunking = model.spaces.chunking
    fleet = AheadFleet(timed, chunking, ahead) if ahead else in_chunks(timed, chunking)
    acted = list(
        rollout(
            fleet,
            Slow(ModelPolicy(model), delay_steps / hz),
            GroundTruthTermination(fleet),
            seeds=islice(episode_seeds(Purpose.EVALUATION, 0), episodes),
            max_steps=whole_chunks(MAX_STEPS, chunking, ahead),
        )
    )
    fleet.close()
    solved = [episode for episode in acted if episode.ended is Ended.SUCCESS_TRUE]
    success = Rate(successes=len(solved), total=len(acted))
    executed = CHUNK - ahead  # of a decision, but for the first of an episode
    return {
        "success": round(success.value, 3),
        "ci95": [round(bound, 3) for bound in success.interval],
        "idle_steps": round(100 * timed.idle / timed.steps, 2),
        "steps": round(float(np.mean([executed * episode.num_steps for episode in solved])), 1),
    }


def main(hz: float, delay_steps: float, ahead: int, episodes: int, practice_steps: int) -> None:
    """Measure the four, and print the JSON line."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sft = trained(Path(folder))
        model = load_model(sft, build_model, "policy")
        after = load_model(practised(sft, ahead, practice_steps), build_model, "policy")
    of = partial(measured, hz=hz, episodes=episodes)
    result = {
        "hz": hz,
        "delay_steps": delay_steps,
        "episodes": episodes,
        "fast": of(model, delay_steps=0, ahead=0),
        "slow": of(model, delay_steps=delay_steps, ahead=0),
        "ahead": of(model, delay_steps=delay_steps, ahead=ahead),
        "practised": of(after, delay_steps=delay_steps, ahead=ahead),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A slow model at a control rate.")
    parser.add_argument("--hz", type=float, default=50)
    parser.add_argument("--delay-steps", type=float, default=3)
    parser.add_argument("--ahead", type=int, default=4)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--practice-steps", type=int, default=400_000)
    given = parser.parse_args()
    main(given.hz, given.delay_steps, given.ahead, given.episodes, given.practice_steps)
