"""gym_pusht's PushT with starts near the goal, done at 80 % coverage in place of 95 %.

A package of one's own: `nearer ... --env easy_pusht/PushT-v0` imports it by its namespace.
"""

import gymnasium
import numpy as np
from gym_pusht.envs import PushTEnv

GOAL = np.array([256.0, 256.0, np.pi / 4])
"""x, y (pixels of 512) and angle (radians) of the block where it covers its goal."""


class EasyPushT(PushTEnv):
    """The block starts within 60 pixels and 0.5 rad of its goal."""

    task = "push the T onto its goal"

    def __init__(self, **kwargs):
        """Make PushT, and ask for less."""
        super().__init__(obs_type="state", **kwargs)
        self.success_threshold = 0.8

    def reset(self, seed=None, options=None):
        """Start near the goal."""
        rng = np.random.default_rng(seed)
        block = GOAL + rng.uniform(-1, 1, 3) * (60, 60, 0.5)
        agent = np.clip(block[:2] + _on_circle(rng, 130), 30, 480)
        state = (options or {}).get("reset_to_state", [*agent, *block])
        return super().reset(seed=seed, options={"reset_to_state": state})


def _on_circle(rng, radius):
    angle = rng.uniform(-np.pi, np.pi)
    return radius * np.array([np.cos(angle), np.sin(angle)])


gymnasium.register("easy_pusht/PushT-v0", EasyPushT, max_episode_steps=300)
