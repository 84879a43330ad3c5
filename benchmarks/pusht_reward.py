"""Does d reward the last corrections of PushT?

    python benchmarks/pusht_reward.py --run RUN [--episodes 200] [--seed 777000]

The policy of a run acts from starts that no demonstration has, and its reward model's d is set
beside the env's coverage of the goal, which must reach 0.95. One JSON line:

    success        episodes, of how many
    d_by_coverage  a row a band of coverage: frames, mean and standard deviation of d in control
                   steps, Spearman's rank correlation of d and coverage within the band
    rewards        of five control steps that begin at a coverage of 0.85 or more, by what coverage
                   does in them: how many, mean and standard deviation of d before less d after
    failures       of how many, how many came within 0.10 of success, and how many end there
"""

import argparse
import json
from dataclasses import dataclass
from itertools import pairwise

import gym_pusht
import gymnasium
import numpy as np
from scipy.stats import spearmanr

import nearer

NEEDED = 0.95
EDGES = (0.0, 0.5, 0.7, 0.8, 0.85, 0.9, NEEDED)
ALMOST = 0.85
STEPS = 5
CHANGE = 0.005  # of coverage: less is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One episode: d and coverage after every control step."""

    d: np.ndarray
    coverage: np.ndarray
    is_success: bool


def drive(agent: nearer.Agent, env: gymnasium.Env, seed: int, max_steps: int) -> Run:
    """Let the agent act from one start."""
    observation, _ = env.reset(seed=seed)
    d: list[float] = []
    coverage: list[float] = []
    for step in range(max_steps + 1):
        answer = agent.act(observation, "push the T", reset=step == 0)
        if step:
            d.append(answer.steps_to_go)
        if step == max_steps or (coverage and coverage[-1] >= NEEDED):
            break
        observation, _, _, _, info = env.step(np.clip(answer.actions[0], 0, 512))
        coverage.append(float(info["coverage"]))
    return Run(d=np.array(d), coverage=np.array(coverage), is_success=max(coverage) >= NEEDED)


def band(runs: list[Run], low: float, high: float) -> dict[str, object]:
    """Return what d is where the coverage lies in [low, high)."""
    d = np.concatenate([run.d for run in runs])
    coverage = np.concatenate([run.coverage for run in runs])
    inside = (coverage >= low) & (coverage < high)
    return {
        "coverage": [low, high],
        "frames": int(inside.sum()),
        "d": _mean_and_std(d[inside]),
        "rank_correlation": round(float(spearmanr(d[inside], coverage[inside])[0]), 2),
    }


def rewards(runs: list[Run]) -> dict[str, list[float]]:
    """Return the rewards of a few control steps, where the T is almost in place."""
    kinds: dict[str, list[float]] = {"rises": [], "falls": [], "stays": []}
    for run in runs:
        for start in range(0, len(run.d) - STEPS, STEPS):
            if run.coverage[start] < ALMOST:
                continue
            change = run.coverage[start + STEPS] - run.coverage[start]
            kind = "rises" if change > CHANGE else "falls" if change < -CHANGE else "stays"
            kinds[kind].append(run.d[start] - run.d[start + STEPS])
    return {kind: [len(values), *_mean_and_std(np.array(values))] for kind, values in kinds.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", required=True)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--max-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=777_000)
    options = parser.parse_args()
    env = gymnasium.make(
        f"{gym_pusht.__name__}/PushT-v0", obs_type="environment_state_agent_pos"
    ).unwrapped
    agent = nearer.Agent.load(options.run, seed=options.seed)
    seeds = range(options.seed, options.seed + options.episodes)
    runs = [drive(agent, env, seed, options.max_steps) for seed in seeds]
    failed = [run.coverage for run in runs if not run.is_success]
    result = {
        "success": [sum(run.is_success for run in runs), len(runs)],
        "d_by_coverage": [band(runs, low, high) for low, high in pairwise(EDGES)],
        "rewards": rewards(runs),
        "failures": [
            len(failed),
            sum(coverage.max() >= ALMOST for coverage in failed),
            sum(coverage[-1] >= ALMOST for coverage in failed),
        ],
    }
    print(json.dumps(result, default=int))


def _mean_and_std(values: np.ndarray) -> list[float]:
    return [round(float(values.mean()), 1), round(float(values.std()), 1)]


if __name__ == "__main__":
    main()
