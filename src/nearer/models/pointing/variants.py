"""The built-in vision encoder in three variants of pretraining (paper, reward-model ablation).

What each variant starts from, with either network:

    small-vla            multimodal: vision and language pretrained jointly on captioned images
    small-vla-unimodal   vision pretrained alone (lite0: ImageNet's trunk; unet: trained to have the
                         features of such a trunk), the rest random
    small-vla-scratch    random weights
"""

import torch

from nearer.core.seeds import Purpose, episode_seed
from nearer.models.pointing.lite0_network import Lite0Network
from nearer.models.pointing.tower import PointingTower
from nearer.models.pointing.weights import LITE0, UNET, UNIMODAL, channels_last, load_pointing
from nearer.models.settings import Network


def tower_of(variant: str, network: Network, seed: int) -> PointingTower:
    """Return the tower of a variant; architecture and vocabulary are the same for all.

    Args:
        variant: multimodal, unimodal or scratch.
        network: lite0 or unet.
        seed: of the weights that are not pretrained.
    """
    pretrained = load_pointing(LITE0 if network == "lite0" else UNET)
    if variant == "multimodal":
        return pretrained
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.WEIGHTS, seed))
        tower = PointingTower(pretrained.config, pretrained.words.vocabulary)
    tower.fold_batch_norm()
    if variant == "unimodal":
        _take_vision(tower, pretrained)
    return channels_last(tower).eval()


def _take_vision(tower: PointingTower, pretrained: PointingTower) -> None:
    """Give a tower what images alone have taught."""
    if isinstance(tower.network, Lite0Network) and isinstance(pretrained.network, Lite0Network):
        tower.network.trunk.load_state_dict(pretrained.network.trunk.state_dict())
    else:
        tower.network.load_state_dict(load_pointing(UNIMODAL).network.state_dict())
