"""What each part of a fleet costs, for docs/cluster.md: one core, small-vla on the tabletop.

    python benchmarks/fleet_parts.py [--rounds 5]

One JSON line, medians of the rounds: `decision_ms` (rendering, encoding, deciding and checking, a
robot's control step, of eight in lockstep) and `decision_without_images_ms` (point mass, the
same); `decide_ms` (policy and check alone, given the features); `update_ms` of 64 samples;
`score_ms` of an episode; `episode_kb` and `episode_ms` (an episode of `episode_steps`, through a
pipe), `beat_us` (a sign of life through a pipe), `weights_mb` and `weights_ms` (to one actor, and
loaded there).
"""

import argparse
import json
import pickle
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe
from statistics import median
from typing import cast

import numpy as np
import torch

from nearer.algorithm.batch import make_batch
from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.learner import Learner
from nearer.algorithm.model import Detector, FoundationModel, ModelPolicy
from nearer.algorithm.rollout import LockstepSource
from nearer.algorithm.score import score
from nearer.core.episode import Episode
from nearer.envs.tabletop.language import vocabulary
from nearer.fleets.actors.actor import load_weights, trained_weights
from nearer.fleets.actors.messages import Beat, EpisodeEnded
from nearer.fleets.for_model import fitting_fleet
from nearer.fleets.gym import make_fleet
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig

ROBOTS, MAX_STEPS = 8, 40


def tabletop() -> FoundationModel:
    """Return an untrained small-vla."""
    fleet = make_fleet("nearer/TabletopBlock2Block-v0", 1)
    spaces = fleet.spaces
    fleet.close()
    return new_model("small-vla", SmallVLAConfig(), spaces, vocabulary(), seed=0).eval()


def point_mass() -> FoundationModel:
    """Return an untrained mlp."""
    spaces = make_fleet("nearer/PointMass-v0", 1).spaces
    return new_model("mlp", MLPConfig(), spaces, (), seed=0).eval()


def seconds(act: Callable[[], object], times: int = 1) -> float:
    """Return how long it takes once."""
    begun = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - begun) / times


def collected(env: str, model: FoundationModel) -> tuple[float, list[Episode]]:
    """Return seconds a decision, and episodes."""
    fleet = fitting_fleet(env, ROBOTS, model, model)
    source = LockstepSource(
        fleet=fleet,
        termination=Detector(model=model, threshold_steps=0.0),
        max_steps=MAX_STEPS,
        seed=0,
    )
    list(source.episodes(ModelPolicy(model), 0, 1))  # warm
    begun = time.perf_counter()
    episodes = list(source.episodes(ModelPolicy(model), 1, ROBOTS * MAX_STEPS))
    taken = (time.perf_counter() - begun) / sum(episode.num_steps for episode in episodes)
    fleet.close()
    return taken, episodes


def measured() -> dict[str, float]:
    """Return every part once."""
    model, small = tabletop(), point_mass()
    ours, theirs = Pipe()
    decision_s, episodes = collected("nearer/TabletopBlock2Block-v0", model)
    small_s, _ = collected("nearer/PointMass-v0", small)
    episode = max(episodes, key=lambda episode: episode.num_steps)
    rows = episode.observations.rows(np.zeros(ROBOTS, np.int64))
    instructions, robots = [episode.instruction] * ROBOTS, np.arange(ROBOTS)
    rngs = [np.random.default_rng(robot) for robot in range(ROBOTS)]
    check, policy = Detector(model=model, threshold_steps=0.0), ModelPolicy(model)

    def decide() -> None:
        check.check(rows, instructions, robots)
        policy.act(rows, instructions, robots, rngs)

    scoring = partial(score, model, threshold_steps=0.0, discount=0.9, success_bonus=0.0)
    samples = make_batch(scoring(episodes)).rows(torch.arange(64))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
    one_update = Practice(updates_per_iteration=1, batch_size=len(samples))
    learner = Learner(one_update, Deviations(), model, optimizer)
    ended = EpisodeEnded(episode=episode, success=np.zeros(episode.num_steps + 1, bool))
    weights = trained_weights(model)

    def through_pipe(message: object) -> object:
        theirs.send(message)
        return ours.recv()

    return {
        "decision_ms": 1e3 * decision_s,
        "decision_without_images_ms": 1e3 * small_s,
        "decide_ms": 1e3 * seconds(decide, 50) / ROBOTS,
        "update_ms": 1e3 * seconds(lambda: learner.learn(samples, 0), 20),
        "score_ms": 1e3 * seconds(lambda: scoring(episodes)) / len(episodes),
        "episode_steps": episode.num_steps,
        "episode_kb": len(pickle.dumps(ended)) / 1024,
        "episode_ms": 1e3 * seconds(lambda: through_pipe(ended), 50),
        "beat_us": 1e6 * seconds(lambda: through_pipe(Beat(resetting=False, in_flight=1)), 500),
        "weights_mb": len(pickle.dumps(weights)) / 2**20,
        "weights_ms": 1e3
        * seconds(lambda: load_weights(model, pickle.loads(pickle.dumps(weights))), 10),
    }


def main(rounds: int) -> None:
    """Measure the parts, and print the JSON line."""
    torch.set_num_threads(1)
    results = [measured() for _ in range(rounds)]
    middle = {key: round(median(result[key] for result in results), 3) for key in results[0]}
    print(json.dumps(cast(dict[str, float], middle)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What each part of a fleet costs.")
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args().rounds)
