"""Steps-to-go, progress rewards, returns and success of an episode that was recorded elsewhere.

    python examples/score_an_episode.py

The reward model is trained in seconds here. With a run or a hub id of yours, the ten lines of
`main` are all there is.
"""

import tempfile
from pathlib import Path

import numpy as np

import nearer
from nearer.configs import CollectConfig, MLPConfig, SFTConfig, SFTTraining
from practise_in_your_env import Cart, Driver


def main(run: Path) -> None:
    reward_model = nearer.RewardModel.load(run)  # or "user/name"
    # The cart comes near the mark, drifts away from it again, and reaches it in the end.
    x = np.array([-0.8, -0.7, -0.5, -0.3, -0.1, -0.2, -0.3, -0.1, 0.1, 0.3, 0.37, 0.4], np.float32)
    observations = nearer.Observation(
        agent_pos=np.stack([x, 0 * x], axis=1),
        environment_state=np.full((len(x), 2), [0.4, 0.0], np.float32),
    )
    labels = reward_model.score(observations, "drive to the mark", discount=0.9)
    print(" t     d(o_t)      r_t   R_t   solved")
    for t, (d, std) in enumerate(zip(labels.steps_to_go, labels.steps_to_go_std, strict=True)):
        numbers = f"{d:5.1f} ± {std:4.1f} {labels.rewards[t]:+5.1f} {labels.returns[t]:+5.1f}"
        print(f"{t:2}  {numbers}   {'yes' if labels.solved[t] else 'no'}")


def train(folder: Path) -> Path:
    """Return a Stage-1 run on demonstrations of the cart."""
    env = nearer.register_env(Cart)
    data, run = folder / "data", folder / "sft"
    nearer.collect(CollectConfig(env=env, episodes=300, out=data), demonstrator=Driver())
    training = SFTTraining(updates=1000, validate_every=200, learning_rate=3e-3)
    nearer.sft(
        SFTConfig(data=str(data), model="mlp", mlp=MLPConfig(hidden=64), training=training, out=run)
    )
    return run


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(train(Path(temporary)))
