"""The two networks of the vision encoder, and the convolutions that they are made of."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nearer.models.pointing.convolution import ConvNorm, fold_batch_norm, resized_like
from nearer.models.pointing.lite0_network import Lite0Network
from nearer.models.pointing.pretraining.imagenet import imagenet_lite0
from nearer.models.pointing.unet import UNet
from nearer.models.pointing.weights import LITE0, load_pointing

IMAGES = torch.zeros((2, 96, 128, 3), dtype=torch.uint8)


@pytest.mark.parametrize("network", [UNet, Lite0Network])
def test_network_gives_a_normalised_key_for_every_two_by_two_pixels(
    network: Callable[[int], nn.Module],
) -> None:
    torch.manual_seed(0)
    keys = network(8).eval()(IMAGES)
    assert keys.shape == (2, 8, 48, 64)
    assert torch.allclose(keys.mean(dim=1), torch.zeros(2, 48, 64), atol=1e-5)


def test_unet_of_a_shifted_image_gives_shifted_keys() -> None:
    """Keys say what is there, not where."""
    torch.manual_seed(0)
    unet = UNet(8).eval()
    images = torch.randint(0, 256, (1, 96, 128, 3), dtype=torch.uint8)
    shifted = images.roll((8, 16), dims=(1, 2))
    inside = (slice(None), slice(None), slice(22, -22), slice(26, -26))  # far from the borders
    with torch.no_grad():
        expected = unet(images).roll((4, 8), dims=(2, 3))[inside]
        assert torch.allclose(unet(shifted)[inside], expected, atol=0.01)


def test_fold_batch_norm_of_a_convolution_keeps_its_output() -> None:
    torch.manual_seed(0)
    conv = ConvNorm(3, 4, 3, stride=2)
    maps = torch.randn(2, 3, 9, 9)
    conv.train()(maps)  # running statistics
    expected = conv.eval()(maps)
    fold_batch_norm(conv)
    assert conv.norm is None
    assert torch.allclose(conv(maps), expected, atol=1e-5)


def test_resized_like_gives_the_rows_and_columns_of_the_other() -> None:
    assert resized_like(torch.ones(1, 2, 3, 4), torch.zeros(1, 5, 6, 8)).shape == (1, 2, 6, 8)


def test_shipped_trunk_is_imagenets_rounded() -> None:
    network = load_pointing(LITE0).network
    assert isinstance(network, Lite0Network)
    published = imagenet_lite0().state_dict()
    for name, weight in network.trunk.state_dict().items():
        torch.testing.assert_close(weight, published[name], rtol=0.01, atol=0.01)
