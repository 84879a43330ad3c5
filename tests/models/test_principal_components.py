"""Principal components: what varies most comes first, of a size that a network reads."""

import numpy as np
import torch

from nearer.models.principal_components import PrincipalComponents


def features(frames: int) -> torch.Tensor:
    """Return three hidden numbers, of variance 100, 1 and 0.01, mixed into forty."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(frames, 3, generator=generator) * torch.tensor([10.0, 1.0, 0.1])
    mixed, _ = torch.linalg.qr(torch.randn(40, 3, generator=generator))
    return hidden @ mixed.T + 7


def test_components_say_what_varies_in_order_and_at_one_size() -> None:
    components = PrincipalComponents(40)
    components.fit(features(3000), np.random.default_rng(0))
    found = components(features(3000))
    assert found.shape == (3000, components.width)
    assert torch.allclose(found[:, 0].std(), torch.tensor(1.0), atol=0.05)
    assert 0.5 < float(found[:, 2].std()) < 1
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(3000, 3, generator=generator)
    for axis in range(3):
        both = torch.stack([hidden[:, axis], found[:, axis]])
        assert abs(float(torch.corrcoef(both)[0, 1])) > 0.97


def test_components_of_few_frames_are_zero_where_nothing_varies() -> None:
    components = PrincipalComponents(40)
    components.fit(features(5), np.random.default_rng(0))
    found = components(features(5))
    assert torch.isfinite(found).all()
    assert (found[:, 5:] == 0).all()


def test_components_are_a_function_of_the_generator_alone() -> None:
    found: list[torch.Tensor] = []
    for start in (1, 2):
        torch.manual_seed(start)
        components = PrincipalComponents(40)
        components.fit(features(300), np.random.default_rng(5))
        found.append(components(features(300)))
    assert torch.equal(*found)
