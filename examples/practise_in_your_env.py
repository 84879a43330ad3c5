"""An env of one's own, from demonstrations to a policy that practice made better: both stages.

    python examples/practise_in_your_env.py

Any Gymnasium env with lerobot's observation keys can take the cart's place. `is_success` is read to
keep demonstrations that succeed and to measure policies; Stage 2 does not see it.
"""

import tempfile
from pathlib import Path

import gymnasium
import numpy as np

import nearer
from nearer.configs import (
    Calibration,
    CollectConfig,
    EvalConfig,
    ImproveConfig,
    MLPConfig,
    Practice,
    SFTConfig,
    SFTTraining,
)
from nearer.core.interfaces import Decision


class Cart(gymnasium.Env):
    """A cart on a table of 2 x 2 m that is to reach a mark; actions are velocities, m a step."""

    plane = gymnasium.spaces.Box(-1, 1, (2,))
    control_hz = 10  # control steps a second
    observation_space = gymnasium.spaces.Dict({"agent_pos": plane, "environment_state": plane})
    action_space = gymnasium.spaces.Box(-0.1, 0.1, (2,))
    task = "drive to the mark"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cart, self.mark = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        return self.observe(), {"is_success": False}

    def step(self, action):
        self.cart = np.clip(self.cart + np.clip(action, -0.1, 0.1), -1, 1).astype(np.float32)
        done = bool(np.abs(self.cart - self.mark).max() < 0.05)
        return self.observe(), 0.0, False, False, {"is_success": done}

    def observe(self):
        return {"agent_pos": self.cart.copy(), "environment_state": self.mark.copy()}


class Driver:
    """Drives towards the mark, slowly and clumsily: where demonstrations come from here."""

    def begin(self, robots, rngs):
        pass

    def act(self, observation, instructions, robots, rngs):
        noise = np.stack([rng.normal(0, 0.04, 2) for rng in rngs])
        gap = observation.environment_state - observation.agent_pos
        actions = np.clip(0.15 * gap + noise, -0.1, 0.1).astype(np.float32)
        return Decision(actions=actions, log_prob=np.zeros(len(robots), np.float32))


# The thirty lines: demonstrations, Stage 1, Stage 2, and both policies on the same starts.
def main(folder: Path) -> None:
    data, sft, practice = (folder / name for name in ("data", "sft", "practice"))
    env = nearer.register_env(Cart)
    nearer.collect(CollectConfig(env=env, episodes=300, out=data), demonstrator=Driver())
    nearer.sft(
        SFTConfig(
            data=str(data),
            model="mlp",
            mlp=MLPConfig(hidden=128),
            calibration=Calibration(env=env, rollout_steps=40),
            training=SFTTraining(updates=1500, validate_every=250, learning_rate=3e-3),
            out=sft,
        )
    )
    nearer.improve(
        ImproveConfig(
            run=sft,
            env=env,
            practice=Practice(max_env_steps=30_000, max_steps=40, learning_rate=1e-3),
            num_envs=16,
            out=practice,
        )
    )
    for run in (sft, practice):
        evaluation = nearer.evaluate(
            EvalConfig(checkpoint=run, env=env, episodes=300, max_steps=40, out=run / "eval")
        )
        print(f"{run.name:<9} success {evaluation.success}, {evaluation.mean_length:.1f} steps")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
