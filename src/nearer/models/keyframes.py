"""Where a robot will be when a gripper next opens or closes, as images predict it.

Labels are hindsight: keyframes of a demonstration are the frames in which a gripper has just opened
or closed, and its last one. What is predicted for a frame is the proprioception at each
gripper's next keyframe: where the hand must go to grasp what the images show. Policy and
steps-to-go read that in place of the images; of some hundred demonstrations they would learn the
images themselves by heart (docs/log.md).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nearer.core.arrays import Array

_COMPONENTS = 256
"""Principal components of the images' features."""
_LEAST_WEIGHT = 0.3
"""Of the last of them, when that of the first is 1 and all have variance 1."""
_LEAST_SPREAD = 3e-3
"""Of that of the first: what varies less is not made as large as the others."""
_HIDDEN = 256
_DROPOUT = 0.2
_UPDATES = 4000
_BATCH_SIZE = 256
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.1
_MOST_FRAMES = 20_000
"""That the components are computed from."""


class KeyframePredictor(nn.Module):
    """Predicts normalised proprioception at keyframes; frozen but for `fit`.

    Args:
        features: numbers of an image's features.
        state: numbers of the state.
        targets: numbers that are predicted.
    """

    def __init__(self, features: int, state: int, targets: int) -> None:
        super().__init__()
        self.components = nn.Buffer(torch.zeros(features, _COMPONENTS))
        self.feature_mean = nn.Buffer(torch.zeros(features))
        self.target_mean = nn.Buffer(torch.zeros(targets))
        self.target_std = nn.Buffer(torch.ones(targets))
        self.network = nn.Sequential(
            nn.Dropout(_DROPOUT),
            nn.Linear(_COMPONENTS + state, _HIDDEN),
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
        self, features: Float[Tensor, "samples features"], state: Float[Tensor, "samples state"]
    ) -> Float[Tensor, "samples targets"]:
        """Return what is predicted, each number in standard deviations from its mean.

        Args:
            features: of the images.
            state: normalised.
        """
        components = (features - self.feature_mean) @ self.components
        return self.network(torch.cat([components, state], dim=1))

    @torch.enable_grad()
    def fit(
        self,
        features: Float[Tensor, "frames features"],
        state: Float[Tensor, "frames state"],
        targets: Float[Tensor, "frames targets"],
        rng: np.random.Generator,
    ) -> None:
        """Learn from demonstrations what images predict, and stay as it is from then on.

        Args:
            features: of every frame's images.
            state: normalised.
            targets: in units of the proprioception; see `proprioception_at_keyframes`.
            rng: of the minibatches.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))  # the components are approximate
            self._fit_components(features)
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
                loss = (self(features[rows], state[rows]) - normalised[rows]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.network.requires_grad_(False).eval()

    @torch.no_grad()
    def _fit_components(self, features: Float[Tensor, "frames features"]) -> None:
        """Store the principal components; the first has the largest weight."""
        some = features[:: -(-len(features) // _MOST_FRAMES)].float()
        self.feature_mean.copy_(some.mean(dim=0))
        count = min(_COMPONENTS, *some.shape)
        _, sizes, axes = torch.pca_lowrank(some, q=count)
        spread = (sizes / len(some) ** 0.5).clamp(min=1e-6)
        weights = torch.linspace(1, _LEAST_WEIGHT, count) / spread.clamp(
            min=_LEAST_SPREAD * spread[0]
        )
        self.components[:, :count] = axes * weights


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
