"""Any Gymnasium env with lerobot's observation keys works: here a cart that drives to a mark.

    python examples/collect_from_your_env.py

Collects demonstrations with a policy of one's own; writes a LeRobotDataset v3.0 for `nearer sft`.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import gymnasium
import numpy as np

import nearer
from nearer.configs import CollectConfig
from nearer.core.episode import EncodedObservation
from nearer.core.interfaces import Decision, Rngs
from nearer.datasets.lerobot.reader import open_dataset


class Cart(gymnasium.Env):
    """A cart on a rail of 2 m; the action is its velocity in m per step."""

    control_hz = 10  # control steps a second
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
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: np.ndarray,
        rngs: Rngs,
    ) -> Decision:
        noise = np.stack([rng.normal(0, 0.02, 1) for rng in rngs])
        gap = observation.environment_state - observation.agent_pos
        actions = np.clip(0.3 * gap + noise, -0.1, 0.1).astype(np.float32)
        return Decision(actions=actions, log_prob=np.zeros(len(robots), np.float32))


env = nearer.register_env(Cart, "examples/Cart-v0")
nearer.testing.check_fleet(nearer.make_fleet(env, num_robots=2))
with tempfile.TemporaryDirectory() as folder:
    data = Path(folder) / "cart"
    successful = nearer.collect(
        CollectConfig(env=env, episodes=50, min_observations=2, out=data),
        demonstrator=Driver(),
    )
    dataset = open_dataset(data)
    frames = dataset.info.total_frames
    print(f"{successful} of 50 episodes of '{dataset.tasks[0]}', {frames} frames")
