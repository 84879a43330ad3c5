"""Where a robot will be when a gripper next opens or closes, as images predict it.

Labels are hindsight: keyframes of a demonstration are the frames in which a gripper has just opened
or closed, and its last one. What is predicted for a frame is the proprioception at each
gripper's next keyframe: where the hand must go to grasp what the images show. A policy reads that
in place of the images; of some hundred demonstrations it would learn the images themselves by heart
(docs/log.md).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nearer.core.arrays import Array

_HIDDEN = 256
_DROPOUT = 0.2
_UPDATES = 4000
_BATCH_SIZE = 256
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.1


class KeyframePredictor(nn.Module):
    """Predicts normalised proprioception at keyframes; frozen but for `fit`.

    In training mode its dropout goes on: a policy then learns from predictions that are as far off
    as those of new episodes (docs/log.md).

    Args:
        components: numbers that say what the images show.
        state: numbers of the state.
        targets: numbers that are predicted.
    """

    def __init__(self, components: int, state: int, targets: int) -> None:
        super().__init__()
        self.target_mean = nn.Buffer(torch.zeros(targets))
        self.target_std = nn.Buffer(torch.ones(targets))
        self.network = nn.Sequential(
            nn.Dropout(_DROPOUT),
            nn.Linear(components + state, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, targets),
        )
        self.requires_grad_(False)

    def forward(
        self,
        components: Float[Tensor, "samples components"],
        state: Float[Tensor, "samples state"],
    ) -> Float[Tensor, "samples targets"]:
        """Return what is predicted, each number in standard deviations from its mean.

        Args:
            components: of the images' features.
            state: normalised.
        """
        return self.network(torch.cat([components, state], dim=1))

    @torch.enable_grad()
    def fit(
        self,
        components: Float[Tensor, "frames components"],
        state: Float[Tensor, "frames state"],
        targets: Float[Tensor, "frames targets"],
        rng: np.random.Generator,
    ) -> None:
        """Learn from demonstrations what images predict, and stay as it is from then on.

        Args:
            components: of every frame's images.
            state: normalised.
            targets: in units of the proprioception; see `proprioception_at_keyframes`.
            rng: of the minibatches.
        """
        self.target_mean.copy_(targets.mean(dim=0))
        spread = targets.std(dim=0)
        self.target_std.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))
        normalised = (targets - self.target_mean) / self.target_std
        self.network.requires_grad_(True).train()
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _UPDATES)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))  # of what dropout leaves out
            for _ in range(_UPDATES):
                rows = torch.from_numpy(rng.integers(0, len(state), _BATCH_SIZE))
                loss = (self(components[rows], state[rows]) - normalised[rows]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.network.requires_grad_(False).eval()


def proprioception_at_keyframes(
    agent_pos: Float[Tensor, "frames agent_pos"],
    lengths: Int64[Array, "episodes"],
    grippers: Sequence[int],
) -> Float[Tensor, "frames targets"]:
    """Return, for every frame, the proprioception at each gripper's next keyframe, side by side.

    A gripper is open or closed: in the upper or the lower half of the range it has over all frames.
    After its last change, and without a gripper, the keyframe is the episode's last frame.

    Args:
        agent_pos: of episodes one after the other.
        lengths: frames an episode.
        grippers: the numbers of `agent_pos` that are grippers' openings.
    """
    frames = np.arange(len(agent_pos))
    last = np.repeat(np.cumsum(lengths) - 1, lengths)
    parts: list[Tensor] = []
    for gripper in grippers:
        opening = agent_pos[:, gripper].numpy()
        is_open = opening > (opening.min() + opening.max()) / 2
        changed = np.flatnonzero(np.diff(is_open)) + 1
        changed = np.setdiff1d(changed, np.cumsum(lengths))  # between two episodes
        following = np.searchsorted(changed, frames)
        following = np.append(changed, len(frames))[following]  # may be another episode's
        parts.append(agent_pos[torch.from_numpy(np.minimum(following, last))])
    return torch.cat(parts, dim=1) if parts else agent_pos[torch.from_numpy(last)]
