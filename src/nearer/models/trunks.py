"""Hidden layers of the built-in model: how an instruction enters them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nearer.models.settings import SmallVLAConfig

_FILM_HIDDEN = 64


def new_trunk(config: SmallVLAConfig, width_in: int) -> nn.Module:
    """Return the hidden layers of one network.

    Args:
        config: sizes, and how the instruction enters.
        width_in: of the inputs, whose last `word_width` numbers are the instruction's embedding.
    """
    if config.conditioning == "film":
        return FilmTrunk(width_in, config.word_width, config.hidden, config.dropout)
    return two_layers(width_in, config.hidden, config.dropout)


def two_layers(width_in: int, hidden: int, dropout: float) -> nn.Sequential:
    """Return a trunk: two hidden layers with dropout."""
    return nn.Sequential(
        nn.Linear(width_in, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
    )


class FilmTrunk(nn.Module):
    """Two hidden layers whose units the instruction scales and shifts (FiLM; Perez et al. 2018).

    Args:
        width_in: of the inputs, whose last `word_width` numbers are the instruction's embedding.
        word_width: width of that embedding.
        hidden: width of each of the hidden layers.
        dropout: fraction of hidden units dropped in training.
    """

    def __init__(self, width_in: int, word_width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self._word_width = word_width
        self.scales_and_shifts = nn.Sequential(
            nn.Linear(word_width, _FILM_HIDDEN), nn.ReLU(), nn.Linear(_FILM_HIDDEN, 4 * hidden)
        )
        self.first = nn.Linear(width_in - word_width, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.drop = nn.Dropout(dropout)

    def forward(self, inputs: Float[Tensor, "rows width"]) -> Float[Tensor, "rows hidden"]:
        """Return the hidden units of the second layer."""
        seen, instruction = inputs[:, : -self._word_width], inputs[:, -self._word_width :]
        scale1, shift1, scale2, shift2 = self.scales_and_shifts(instruction).chunk(4, dim=1)
        hidden = self.drop(torch.relu(self.first(seen) * (1 + scale1) + shift1))
        return self.drop(torch.relu(self.second(hidden) * (1 + scale2) + shift2))
