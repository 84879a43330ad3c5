"""Attention pooling over image patches, conditioned on a sentence: trained on two frozen towers.

A few queries, made of the sentence's vector and of learned vectors, attend to the patches of every
image, one image at a time, so that the previous frame and the present one can be compared. A patch
is described by its vector, its position in the grid, and its cosine similarity to the sentence: the
quantity that both towers were pretrained for.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from nearer.models.settings import AttentionPoolingConfig

_FREQUENCIES = (0.5, 1.0, 2.0, 4.0)  # of the initial position embedding, half-waves an image
_COSINE_SCALE = 10.0  # cosines of sentence and image are about 0.1
_MIN_VARIANCE = 1e-6  # of cosines; an image of one colour has none


class AttentionPooling(nn.Module):
    """Multi-head attention from sentence-conditioned queries to image patches.

    Args:
        config: sizes.
        space: width of a vector in the towers' shared space.
        grids: rows and columns of each camera's patches.
        frames: images of each camera.

    Attributes:
        num_outputs: width of the pooled vector.
    """

    def __init__(
        self,
        config: AttentionPoolingConfig,
        space: int,
        grids: Sequence[tuple[int, int]],
        frames: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.shape = (config.heads, -(-config.width // config.heads))  # heads, width of a head
        inner = math.prod(self.shape)
        self.queries = nn.Parameter(torch.randn(config.queries, config.width))
        self.sentence_queries = nn.Linear(space, config.queries * config.width)
        self.query_norm = nn.LayerNorm(config.width)
        self.query = nn.Linear(config.width, inner)
        self.patch = nn.Linear(space, config.width)
        self.similarity = nn.Linear(2, config.width)
        self.positions = nn.ParameterList(_initial_positions(*grid, config.width) for grid in grids)
        self.frame_embedding = nn.Parameter(torch.zeros(frames, config.width))
        self.patch_norm = nn.LayerNorm(config.width)
        self.key, self.value = nn.Linear(config.width, inner), nn.Linear(config.width, inner)
        self.sharpness = nn.Parameter(torch.ones(1))
        for number, grid in enumerate(grids):
            self.register_buffer(f"centres{number}", _patch_centres(*grid), persistent=False)
        # Values and positions a query, the position of the best match, the image's similarity.
        per_image = config.queries * inner + 2 * config.queries * config.heads + 2 + 1
        self.num_outputs = frames * len(grids) * per_image

    def forward(
        self,
        images: Sequence[Float[Tensor, "samples _ space"]],
        sentences: Float[Tensor, "samples space"],
    ) -> Float[Tensor, "samples pooled"]:
        """Return, for every image, what each query attends to and at which position.

        Args:
            images: vectors of patches, the whole image's last; all cameras, oldest frame first.
            sentences: vectors in the same space.
        """
        sentences = normalize(sentences, dim=-1)
        # sqrt(width) gives the components of a unit vector a variance of about one.
        offsets = self.sentence_queries(sentences * math.sqrt(sentences.shape[1]))
        queries = self.query_norm(self.queries + offsets.unflatten(1, self.queries.shape))
        queries = self.query(queries).unflatten(2, self.shape)
        pooled = [
            self._pool(tokens, sentences, queries, number) for number, tokens in enumerate(images)
        ]
        return torch.cat(pooled, dim=1)

    def _pool(
        self,
        tokens: Float[Tensor, "samples tokens space"],
        sentences: Float[Tensor, "samples space"],
        queries: Float[Tensor, "samples queries heads width"],
        number: int,
    ) -> Float[Tensor, "samples pooled"]:
        """Pool one image."""
        frame, camera = divmod(number, len(self.positions))
        centres: Tensor = getattr(self, f"centres{camera}")
        vectors = normalize(tokens, dim=-1)
        cosines = torch.einsum("btn,bn->bt", vectors, sentences)
        # Cosines of sentences and patches differ little; how much a patch differs from the others
        # of its image is what counts.
        patches = cosines[:, :-1]
        std = (patches.var(dim=1, correction=0, keepdim=True) + _MIN_VARIANCE).sqrt()
        standardised = (cosines - patches.mean(dim=1, keepdim=True)) / std
        embedded = self.patch(vectors * math.sqrt(vectors.shape[2]))
        embedded = embedded + self.similarity(
            torch.stack([standardised, cosines * _COSINE_SCALE], dim=2)
        )
        embedded = self.patch_norm(embedded + self.positions[camera] + self.frame_embedding[frame])
        keys, values = (
            layer(embedded).unflatten(2, self.shape) for layer in (self.key, self.value)
        )
        scores = torch.einsum("bqhw,bthw->bqht", queries, keys) / math.sqrt(self.shape[1])
        weights = scores.softmax(dim=3)
        what = torch.einsum("bqht,bthw->bqhw", weights, values).flatten(1)
        where = torch.einsum("bqht,tc->bqhc", weights[..., :-1], centres).flatten(1)
        # Expected position of the best match by cosine alone, without any trained projection.
        match = (standardised[:, :-1] * self.sharpness).softmax(dim=1) @ centres
        return torch.cat([what, where, match, cosines[:, -1:] * _COSINE_SCALE], dim=1)


def _patch_centres(rows: int, columns: int) -> Float[Tensor, "patches 2"]:
    """Return x and y of the centre of every patch, -1..1."""
    y, x = ((2 * torch.arange(count) + 1) / count - 1 for count in (rows, columns))
    return torch.cartesian_prod(y, x).reshape(-1, 2).flip(1)


def _initial_positions(rows: int, columns: int, width: int) -> nn.Parameter:
    """Return the initial position embedding: mixed sine waves; zero for the whole image."""
    centres = _patch_centres(rows, columns)
    waves = torch.cat([centres * math.pi * frequency / 2 for frequency in _FREQUENCIES], dim=1)
    waves = torch.cat([waves.sin(), waves.cos()], dim=1)
    mixed = waves @ torch.randn(waves.shape[1], width) / math.sqrt(waves.shape[1] / 2)
    return nn.Parameter(torch.cat([mixed, torch.zeros(1, width)]))
