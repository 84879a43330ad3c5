"""Env steps a second of the tabletop; the last line printed is one JSON object.

    python benchmarks/tabletop.py [--seconds 3] [--repeats 5]

One core: a single env and the software renderer without threads of its own. All cores: 32 envs
with the threads that `TabletopVector` takes by default. Eight blocks that are pushed about, 5 Hz,
the whole env step: physics, checks, success, observation.

Keys: env_steps_per_s_96px (a 96 x 96 image each step), env_steps_per_s (none); the same of the
real appearance with the suffix _real, and of all cores with the prefix vector_; each the median of
the repeats, with _min and _max; per_cpu_s instead of per_s counts the process's own seconds, which
a busy machine does not stretch; num_threads, cores, load (of the machine, before), mujoco.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("LP_NUM_THREADS", "0")

import numpy as np

from nearer.core.cpu import num_cores
from nearer.envs.gl import mujoco
from nearer.envs.tabletop.env import Tabletop, TabletopVector

NUM_ENVS = 32
STEPS_AN_EPISODE = 100
SETTINGS: dict[str, dict[str, Any]] = {
    "env_steps_per_s": {"images": False},
    "env_steps_per_s_96px": {"height": 96, "width": 96},
    "env_steps_per_s_96px_real": {"height": 96, "width": 96, "appearance": "real"},
}


def pushes(rows: int) -> np.ndarray[Any, Any]:
    """Return smooth actions of up to 30 mm a step: a tour of the board that meets blocks."""
    phase = np.arange(STEPS_AN_EPISODE)[:, None] / 9 + np.arange(rows)
    return 0.03 * np.stack([np.cos(phase), np.sin(1.3 * phase)], axis=-1).astype(np.float32)


def steps_per_s(
    reset: Callable[[int], Any], step: Callable[[int], Any], seconds: float
) -> np.ndarray[Any, Any]:
    """Return steps a second of wall-clock and of CPU time, without resets."""
    spent_s, steps, episode = np.zeros(2), 0, 0
    while spent_s[0] < seconds:
        reset(episode)
        start = np.array([time.perf_counter(), time.process_time()])
        for t in range(STEPS_AN_EPISODE):
            step(t)
        spent_s += np.array([time.perf_counter(), time.process_time()]) - start
        steps, episode = steps + STEPS_AN_EPISODE, episode + 1
    return steps / spent_s


def single(seconds: float, **settings: Any) -> np.ndarray[Any, Any]:
    env, actions = Tabletop(**settings), pushes(1)
    rates = steps_per_s(lambda e: env.reset(seed=e), lambda t: env.step(actions[t, 0]), seconds)
    env.close()
    return rates


def vectorised(seconds: float, **settings: Any) -> np.ndarray[Any, Any]:
    envs, actions = TabletopVector(NUM_ENVS, **settings), pushes(NUM_ENVS)
    rates = steps_per_s(lambda e: envs.reset(seed=e), lambda t: envs.step(actions[t]), seconds)
    envs.close()
    return rates * NUM_ENVS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement")
    options = parser.parse_args()
    measured: dict[str, Any] = {
        "num_threads": min(num_cores(), NUM_ENVS),
        "cores": num_cores(),
        "load": round(os.getloadavg()[0], 2),
        "mujoco": mujoco.__version__,
    }
    for name, settings in SETTINGS.items():
        for prefix, measure in (("", single), ("vector_", vectorised)):
            pairs = [measure(options.seconds, **settings) for _ in range(options.repeats)]
            for unit, rates in zip(("per_s", "per_cpu_s"), np.transpose(pairs), strict=True):
                key = prefix + name.replace("per_s", unit)
                measured[key] = round(statistics.median(rates))
                measured[f"{key}_min"], measured[f"{key}_max"] = (
                    round(min(rates)),
                    round(max(rates)),
                )
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
