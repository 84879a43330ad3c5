"""Any Gymnasium env with lerobot's observation keys works: here a cart that drives to a mark.

    python examples/collect_from_your_env.py

Registers an env, runs a policy of yours on it, and writes a LeRobotDataset v3.0 for `nearer sft`.
"""

import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import gymnasium
import numpy as np

from nearer.algorithm.rollout import collect
from nearer.core.episode import Observation
from nearer.core.interfaces import Decision, Rngs
from nearer.core.seeds import Purpose, episode_seeds
from nearer.datasets.episodes import create_dataset, episode_frames
from nearer.datasets.lerobot.reader import open_dataset
from nearer.evaluation.ground_truth import GroundTruthTermination
from nearer.fleets.gym import make_fleet


class Cart(gymnasium.Env):
    """A cart on a rail of 2 m; the action is its velocity in m per step."""

    observation_space = gymnasium.spaces.Dict(
        {
            "agent_pos": gymnasium.spaces.Box(-1, 1, (1,)),
            "environment_state": gymnasium.spaces.Box(-1, 1, (1,)),
        }
    )
    action_space = gymnasium.spaces.Box(-0.1, 0.1, (1,))
    task = "drive to the mark"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cart, self.mark = self.np_random.uniform(-1, 1, (2, 1)).astype(np.float32)
        return self._observe(), {"is_success": False}

    def step(self, action):
        self.cart = np.clip(self.cart + np.clip(action, -0.1, 0.1), -1, 1).astype(np.float32)
        done = bool(abs(self.cart - self.mark)[0] < 0.05)
        return self._observe(), 0.0, False, False, {"is_success": done}

    def _observe(self):
        return {"agent_pos": self.cart.copy(), "environment_state": self.mark.copy()}


class Driver:
    """Drives towards the mark, a little clumsily."""

    def begin(self, robots: np.ndarray, rngs: Rngs) -> None:
        pass

    def act(
        self,
        observation: Observation,
        instructions: Sequence[str],
        robots: np.ndarray,
        rngs: Rngs,
    ) -> Decision:
        noise = np.stack([one.normal(0, 0.02, 1) for one in rngs])
        gap = observation.environment_state - observation.agent_pos
        actions = np.clip(0.3 * gap + noise, -0.1, 0.1).astype(np.float32)
        return Decision(actions=actions, log_prob=np.zeros(len(robots), np.float32))


gymnasium.register("examples/Cart-v0", Cart)
fleet = make_fleet("examples/Cart-v0", num_robots=4)
seeds = islice(episode_seeds(Purpose.DEMONSTRATION, 0), 50)
episodes = list(collect(fleet, Driver(), GroundTruthTermination(fleet), seeds=seeds, max_steps=100))
with tempfile.TemporaryDirectory() as folder:
    writer = create_dataset(Path(folder) / "cart", fleet.spaces, fps=10, robot_type="cart")
    writer.append([episode_frames(episode) for episode in episodes if episode.num_steps])
    dataset = open_dataset(Path(folder) / "cart")
    print(f"{dataset.info.total_episodes} episodes of '{dataset.tasks[0]}' in {folder}/cart")
