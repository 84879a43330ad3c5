"""The built-in vision encoder in three variants of pretraining (paper, reward-model ablation).

What each variant starts from:

    small-vla            multimodal: ImageNet trunk, stem and words jointly (`nearer pretrain`)
    small-vla-unimodal   ImageNet trunk, random stem and words: never trained together
    small-vla-scratch    random trunk, stem and words
"""

import json

import torch

from nearer.core.seeds import Purpose, episode_seed
from nearer.models.pointing.imagenet import imagenet_trunk, sharpened
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig
from nearer.models.pointing.weights import DESCRIPTION, SHIPPED, channels_last, load_pointing


def tower_of(variant: str, seed: int) -> PointingTower:
    """Return the tower of a variant; architecture and vocabulary are the same for all.

    Args:
        variant: multimodal, unimodal or scratch.
        seed: of the weights that are not pretrained.

    Raises:
        ConfigError: unimodal, and the package with the ImageNet weights is not installed.
    """
    if variant == "multimodal":
        return load_pointing()
    description = json.loads((SHIPPED / DESCRIPTION).read_text())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.WEIGHTS, seed))
        vocabulary = Vocabulary(description["vocabulary"])
        tower = PointingTower(TowerConfig(**description["tower"]), vocabulary)
    if variant == "unimodal":
        tower.trunk.load_state_dict(imagenet_trunk())
    sharpened(tower).stem.fold_batch_norm()
    return channels_last(tower).eval()
