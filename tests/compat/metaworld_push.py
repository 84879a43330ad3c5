"""Meta-World's push by its expert, through both stages; run by compatibility.py.

    python metaworld_push.py FOLDER

Prints one JSON line: demonstrations of those tried, and success of both policies.
"""

import sys
from pathlib import Path

import numpy as np
from metaworld.policies import SawyerPushV3Policy
from through_both_stages import through_both_stages

from nearer.core.interfaces import Decision
from nearer.fleets.env_settings import EnvSettings


class Expert:
    """Meta-World's scripted policy, with noise of 0.1 on its actions."""

    def begin(self, robots, rngs):
        """Remember nothing."""

    def act(self, observation, instructions, robots, rngs):
        """Return the expert's action a row."""
        expert = SawyerPushV3Policy()
        rows = observation.agent_pos.astype(np.float64)
        noise = np.stack([rng.normal(0, 0.1, 4) for rng in rngs])
        actions = np.stack([expert.get_action(row) for row in rows]) + noise
        actions = np.clip(actions, -1, 1).astype(np.float32)
        return Decision(actions=actions, log_prob=np.zeros(len(rows), np.float32))


if __name__ == "__main__":
    through_both_stages(
        Path(sys.argv[1]),
        env="Meta-World/MT1",
        settings=EnvSettings(
            env_kwargs=("env_name=push-v3",), instruction="push the puck to the goal"
        ),
        demonstrator=Expert(),
        episodes=100,
        max_steps=150,
    )
