"""The built-in vision encoder in three variants of pretraining (paper, reward-model ablation).

What each variant starts from:

    small-vla            multimodal: vision and language pretrained jointly on captioned images
    small-vla-unimodal   vision pretrained alone (a network trained on ImageNet, distilled on the
                         same images); random words
    small-vla-scratch    random weights
"""

import torch

from nearer.core.seeds import Purpose, episode_seed
from nearer.models.pointing.tower import PointingTower
from nearer.models.pointing.weights import UNET, UNIMODAL, channels_last, load_pointing


def tower_of(variant: str, seed: int) -> PointingTower:
    """Return the tower of a variant; architecture and vocabulary are the same for all.

    Args:
        variant: multimodal, unimodal or scratch.
        seed: of the weights that are not pretrained.
    """
    pretrained = load_pointing(UNET)
    if variant == "multimodal":
        return pretrained
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.WEIGHTS, seed))
        tower = PointingTower(pretrained.config, pretrained.words.vocabulary)
    tower.fold_batch_norm()
    if variant == "unimodal":
        tower.network.load_state_dict(load_pointing(UNIMODAL).network.state_dict())
    return channels_last(tower).eval()
