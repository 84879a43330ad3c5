"""Demonstrations of a Meta-World task by its scripted expert, as a LeRobotDataset.

    pip install 'nearer[metaworld]'
    python examples/demonstrators/metaworld_expert.py push-v3 --episodes 100 --out data
    nearer sft --data data --model mlp --out sft
    nearer improve --run sft --env Meta-World/MT1 \
        --env-kwargs '{"env_name": "push-v3", "seed": 0}' --out practice

The state is what Meta-World observes: gripper, objects and goal, now and a step before, 39 numbers.
The expert's hand wavers, so its episodes vary and some fail; those are left out.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from metaworld.policies import ENV_POLICY_MAP

import nearer
from nearer.configs import CollectConfig
from nearer.core.episode import EncodedObservation
from nearer.core.interfaces import Decision, Rngs
from nearer.fleets.env_settings import EnvSettings

ENV = "Meta-World/MT1"
WAVERS_FOR = 0.8  # of a deviation of the hand, what is left a control step later


class Expert:
    """Meta-World's scripted policy of one task, with a hand that wavers.

    Args:
        task: such as push-v3.
        waver: standard deviation, of actions in [-1, 1].
    """

    def __init__(self, task: str, waver: float) -> None:
        self._policy = ENV_POLICY_MAP[task]()
        self._waver = np.array([waver, waver, waver, 0.0])  # the gripper's fingers do not
        self._deviation: dict[int, np.ndarray] = {}

    def begin(self, robots: np.ndarray, rngs: Rngs) -> None:
        for robot in robots:
            self._deviation[robot] = np.zeros(4)

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: np.ndarray,
        rngs: Rngs,
    ) -> Decision:
        actions = []
        for robot, rng, state in zip(robots, rngs, observation.agent_pos, strict=True):
            drawn = np.sqrt(1 - WAVERS_FOR**2) * rng.normal(0, self._waver)
            self._deviation[robot] = WAVERS_FOR * self._deviation[robot] + drawn
            exact = np.clip(self._policy.get_action(state.astype(np.float64)), -1, 1)
            actions.append(np.clip(exact + self._deviation[robot], -1, 1))
        return Decision(
            actions=np.asarray(actions, np.float32), log_prob=np.zeros(len(robots), np.float32)
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Demonstrations by Meta-World's scripted experts.")
    parser.add_argument("task", choices=sorted(ENV_POLICY_MAP), metavar="task, such as push-v3")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--waver", type=float, default=0.25, help="of the hand; actions reach 1")
    parser.add_argument("--goals", type=int, default=50, help="places of objects and goal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="go on where it was interrupted")
    options = parser.parse_args()
    kwargs = {"env_name": options.task, "seed": options.seed, "num_goals": options.goals}
    words = options.task.removesuffix("-v3").replace("-", " ")
    config = CollectConfig(
        env=ENV,
        env_settings=EnvSettings(env_kwargs=(json.dumps(kwargs),), instruction=words, fps=80),
        episodes=options.episodes,
        max_steps=200,
        num_envs=4,
        seed=options.seed,
        out=options.out,
        resume=options.resume,
    )
    successful = nearer.collect(config, demonstrator=Expert(options.task, options.waver))
    print(f"{successful} of {options.episodes} episodes of '{words}' are in {options.out}")
