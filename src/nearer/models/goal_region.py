"""Where an instruction wants its first object: a disc in the robot's plane, learned in hindsight.

    centre = share(words) * second object + point(words),    radius(words)

"next to the star" is a disc around the second object (a share of 1), "to the top left corner" one
that stays where it is (a share of 0). Nobody states either: every demonstration ends when its
instruction is done, so the first object lies in the disc then, and mostly just inside its rim. The
discs are fitted to the last frames of the demonstrations before Stage 1 and stay as they are.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

_HIDDEN = 64
_UPDATES = 2000
_BATCH_SIZE = 512
_LEARNING_RATE = 1e-2
_WEIGHT_DECAY = 1e-3
_RADIUS_WEIGHT = 0.01  # while the centre is found, the radius follows; then the rim is fitted
_FIRST_RADIUS = 0.2  # of the length scale


class GoalRegion(nn.Module):
    """A disc for every instruction; frozen but for `fit`.

    Args:
        num_words: of the vocabulary.

    Attributes:
        origin: x, y that points are learned from.
        scale: length in the plane that a network output of 1 stands for.
    """

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(num_words, _HIDDEN, mode="sum")
        nn.init.normal_(self.words.weight, std=0.1)
        self.disc = nn.Sequential(nn.ReLU(), nn.Linear(_HIDDEN, 4))
        self.origin = nn.Buffer(torch.zeros(2))
        self.scale = nn.Buffer(torch.ones(()))
        self.requires_grad_(False)

    def forward(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "samples 4"]:
        """Return share, point x and y, and radius for each instruction.

        Args:
            rows: of the words of each instruction.
        """
        return self._discs(*flat_bags(_once(rows)))

    @torch.enable_grad()
    def fit(
        self,
        first: Float[Tensor, "episodes 2"],
        second: Float[Tensor, "episodes 2"],
        rows: Sequence[Sequence[int]],
        scale: Float[Tensor, ""],
        rng: np.random.Generator,
    ) -> None:
        """Learn the discs in which demonstrations end.

        Args:
            first: where the first object lies in the last frame, x, y in the plane.
            second: the same of the second object.
            rows: of the words of each episode's instruction.
            scale: the length of which the discs are expected to be.
            rng: draws the minibatches.
        """
        self.origin.copy_(first.median(dim=0).values)
        self.scale.copy_(scale)
        self.requires_grad_(True)
        bags = _once(rows)
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
        )
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _UPDATES)
        for update in range(_UPDATES):
            drawn = rng.integers(0, len(rows), _BATCH_SIZE)
            discs = self._discs(*flat_bags([bags[int(row)] for row in drawn]))
            chosen = torch.from_numpy(drawn)
            offsets = offset_to_centre(discs, first[chosen], second[chosen])
            distances = (offsets.square().sum(dim=1) + 1e-12).sqrt()
            radii = discs[:, 3]
            if update < _UPDATES // 2:
                radius_loss = (distances.detach() - radii).abs().mean()
                loss = distances.mean() + _RADIUS_WEIGHT * radius_loss
            else:
                loss = (distances - radii).abs().mean()
            optimizer.zero_grad()
            (loss / self.scale).backward()
            optimizer.step()
            decay.step()
        self.requires_grad_(False)

    def _discs(
        self, flat: Int64[Tensor, "words"], starts: Int64[Tensor, "samples"]
    ) -> Float[Tensor, "samples 4"]:
        outputs = self.disc(self.words(flat, starts))
        share = outputs[:, :1].sigmoid()
        point = outputs[:, 1:3] * self.scale + (1 - share) * self.origin
        radius = functional.softplus(outputs[:, 3:]) * _FIRST_RADIUS * self.scale
        return torch.cat([share, point, radius], dim=1)


def offset_to_centre(
    discs: Float[Tensor, "samples 4"],
    first: Float[Tensor, "samples 2"],
    second: Float[Tensor, "samples 2"],
) -> Float[Tensor, "samples 2"]:
    """Return the offset from the first object to the centre of its disc, in the plane."""
    return discs[:, :1] * second + discs[:, 1:3] - first


def flat_bags(
    bags: Sequence[Sequence[int]],
) -> tuple[Int64[Tensor, "words"], Int64[Tensor, "samples"]]:
    """Return all bags of words one after the other, and where each starts, for `EmbeddingBag`."""
    starts = np.cumsum([0, *map(len, bags[:-1])])
    return torch.tensor([row for bag in bags for row in bag]), torch.from_numpy(starts)


def _once(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the words of each instruction without repetitions."""
    return [sorted(set(bag)) for bag in rows]
