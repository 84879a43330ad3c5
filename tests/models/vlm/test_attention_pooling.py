"""Attention of a sentence to the patches of an image."""

import torch

from nearer.models.settings import AttentionPoolingConfig
from nearer.models.vlm.attention_pooling import AttentionPooling


def test_attention_pooling_returns_the_position_of_the_matching_patch() -> None:
    """2 x 4 patches; the sentence has the vector of the patch below right of the centre."""
    config = AttentionPoolingConfig(width=4, queries=1, heads=1)
    pooling = AttentionPooling(config, 8, [(2, 4)], frames=1)
    with torch.no_grad():
        pooling.sharpness.fill_(1000.0)
    patches = torch.cat([torch.eye(8), torch.zeros(1, 8)])[None]
    pooled = pooling([patches], torch.eye(8)[[6]])
    position, similarity = pooled[0, -3:-1], pooled[0, -1]
    torch.testing.assert_close(position, torch.tensor([0.25, 0.5]))
    assert similarity == 0, "the whole image's vector is orthogonal to the sentence"
