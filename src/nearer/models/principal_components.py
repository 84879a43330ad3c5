"""Principal components of what a frozen network makes of images, learnt from demonstrations."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

_COMPONENTS = 256
_LEAST_WEIGHT = 0.3
"""Of the last of them, when that of the first is 1 and all have variance 1."""
_LEAST_SPREAD = 3e-3
"""Of that of the first: what varies less is not made as large as the others."""
_MOST_FRAMES = 20_000
"""That the components are computed from."""


class PrincipalComponents(nn.Module):
    """Projects features on the axes along which they vary most, largest first; has no gradients.

    Args:
        features: numbers of a frame's features.
    """

    width = _COMPONENTS

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(features))
        self.axes = nn.Buffer(torch.zeros(features, _COMPONENTS))

    def forward(
        self, features: Float[Tensor, "samples features"]
    ) -> Float[Tensor, "samples components"]:
        """Return the components, of about the same size each; 0 where frames were too few."""
        return (features - self.mean) @ self.axes

    @torch.no_grad()
    def fit(self, features: Float[Tensor, "frames features"], rng: np.random.Generator) -> None:
        """Find the axes.

        Args:
            features: of every frame.
            rng: the axes are approximate.
        """
        some = features[:: -(-len(features) // _MOST_FRAMES)].float()
        self.mean.copy_(some.mean(dim=0))
        count = min(_COMPONENTS, *some.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            _, sizes, axes = torch.pca_lowrank(some, q=count)
        spread = (sizes / len(some) ** 0.5).clamp(min=1e-6)
        weights = torch.linspace(1, _LEAST_WEIGHT, count) / spread.clamp(
            min=_LEAST_SPREAD * spread[0]
        )
        self.axes[:, :count] = axes * weights
