"""Where a sentence's things are in pictures: what is trained on top of two frozen towers.

A few queries, made of the sentence's vector and of learned ones, attend to the patches of every
picture, one picture at a time, so that the frame before and the present one can be compared. A
patch is known by its vector, its place in the grid, and how well it matches the sentence: the
similarity of vectors that were pretrained together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from nearer.core.settings import check_settings

_FREQUENCIES = (0.5, 1.0, 2.0, 4.0)  # half-waves over a picture that places start as
_MATCH_SCALE = 10.0  # cosines of sentence and picture are about 0.1
_SMALL = 1e-6  # variance of cosines; a picture of one colour has none


@dataclass(frozen=True, slots=True, kw_only=True)
class LookingSizes:
    """Sizes of what is trained on top of the towers.

    Attributes:
        width: numbers a patch and a query become.
        queries: that look at every picture.
        heads: of a query.
        hidden: width of each of the hidden layers that answer.
        dropout: share of the hidden numbers that Stage 1 leaves out.
    """

    width: int = 128
    queries: int = 8
    heads: int = 4
    hidden: int = 256
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_settings(
            self,
            width="[1, inf)",
            queries="[1, inf)",
            heads="[1, inf)",
            hidden="[1, inf)",
            dropout="[0, 1)",
        )


class Looking(nn.Module):
    """Attends to pictures with a sentence in mind.

    Args:
        sizes: of it.
        space: numbers of a vector in the towers' shared space.
        grids: rows and columns of each camera's patches.
        frames: pictures of each camera.
    """

    def __init__(
        self, sizes: LookingSizes, space: int, grids: Sequence[tuple[int, int]], frames: int
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.shape = (sizes.heads, -(-sizes.width // sizes.heads))
        inner = math.prod(self.shape)
        self.queries = nn.Parameter(torch.randn(sizes.queries, sizes.width))
        self.of_sentence = nn.Linear(space, sizes.queries * sizes.width)
        self.query_norm = nn.LayerNorm(sizes.width)
        self.query = nn.Linear(sizes.width, inner)
        self.patch = nn.Linear(space, sizes.width)
        self.match = nn.Linear(2, sizes.width)
        self.places = nn.ParameterList(_first_places(*grid, sizes.width) for grid in grids)
        self.when = nn.Parameter(torch.zeros(frames, sizes.width))
        self.patch_norm = nn.LayerNorm(sizes.width)
        self.key, self.value = nn.Linear(sizes.width, inner), nn.Linear(sizes.width, inner)
        self.sharpness = nn.Parameter(torch.ones(1))
        for number, grid in enumerate(grids):
            self.register_buffer(f"spots{number}", _spots(*grid), persistent=False)
        of_picture = sizes.queries * inner + 2 * sizes.queries * sizes.heads + 2 + 1
        self.num_facts = frames * len(grids) * of_picture

    def forward(
        self,
        pictures: Sequence[Float[Tensor, "samples _ space"]],
        sentences: Float[Tensor, "samples space"],
    ) -> Float[Tensor, "samples facts"]:
        """Return what every query saw in every picture, and where.

        Args:
            pictures: vectors of patches, of the whole one last; every camera's, oldest frame first.
            sentences: vectors in the same space.
        """
        sentences = normalize(sentences, dim=-1)
        asked = self.of_sentence(sentences * math.sqrt(sentences.shape[1]))
        asked = self.query_norm(self.queries + asked.unflatten(1, self.queries.shape))
        asked = self.query(asked).unflatten(2, self.shape)
        seen = [self._look(one, sentences, asked, i) for i, one in enumerate(pictures)]
        return torch.cat(seen, dim=1)

    def _look(
        self,
        picture: Float[Tensor, "samples tokens space"],
        sentences: Float[Tensor, "samples space"],
        asked: Float[Tensor, "samples queries heads width"],
        number: int,
    ) -> Float[Tensor, "samples seen"]:
        """Return what one picture shows."""
        frame, camera = divmod(number, len(self.places))
        spots: Tensor = getattr(self, f"spots{camera}")
        vectors = normalize(picture, dim=-1)
        cosines = torch.einsum("btn,bn->bt", vectors, sentences)
        patches = cosines[:, :-1]
        spread = (patches.var(dim=1, correction=0, keepdim=True) + _SMALL).sqrt()
        matches = (cosines - patches.mean(dim=1, keepdim=True)) / spread
        known = self.patch(vectors * math.sqrt(vectors.shape[2]))
        known = known + self.match(torch.stack([matches, cosines * _MATCH_SCALE], dim=2))
        known = self.patch_norm(known + self.places[camera] + self.when[frame])
        keys, values = (one(known).unflatten(2, self.shape) for one in (self.key, self.value))
        scores = torch.einsum("bqhw,bthw->bqht", asked, keys) / math.sqrt(self.shape[1])
        weights = scores.softmax(dim=3)
        what = torch.einsum("bqht,bthw->bqhw", weights, values).flatten(1)
        where = torch.einsum("bqht,tc->bqhc", weights[..., :-1], spots).flatten(1)
        # Where the sentence as a whole matches best, as pretraining alone has it.
        there = (matches[:, :-1] * self.sharpness).softmax(dim=1) @ spots
        return torch.cat([what, where, there, cosines[:, -1:] * _MATCH_SCALE], dim=1)


def _spots(rows: int, columns: int) -> Float[Tensor, "patches 2"]:
    """Return x and y of the middle of every patch, -1..1."""
    y, x = ((2 * torch.arange(count) + 1) / count - 1 for count in (rows, columns))
    return torch.cartesian_prod(y, x).reshape(-1, 2).flip(1)


def _first_places(rows: int, columns: int, width: int) -> nn.Parameter:
    """Return what places start as: waves over the picture; zero for the whole picture."""
    spots = _spots(rows, columns)
    waves = torch.cat([spots * math.pi * one / 2 for one in _FREQUENCIES], dim=1)
    waves = torch.cat([waves.sin(), waves.cos()], dim=1)
    mixed = waves @ torch.randn(waves.shape[1], width) / math.sqrt(waves.shape[1] / 2)
    return nn.Parameter(torch.cat([mixed, torch.zeros(1, width)]))
