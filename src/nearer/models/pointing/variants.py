"""The sight three ways: how much pretraining it has had (paper, reward-model ablation).

small-vla            multimodal: ImageNet's eyes and words, trained together (`nearer pretrain`)
small-vla-unimodal   ImageNet's eyes and random words that never met
small-vla-scratch    random eyes, random words
"""

import json

import torch

from nearer.core.seeds import Purpose, episode_seed
from nearer.models.pointing.imagenet import imagenet_trunk, sharpened
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig
from nearer.models.pointing.weights import DESCRIPTION, SHIPPED, load_pointing, prepared


def tower_of(variant: str, seed: int) -> PointingTower:
    """Return the sight of a rung, of one architecture and vocabulary.

    Args:
        variant: multimodal, unimodal or scratch.
        seed: of the weights that are not pretrained.

    Raises:
        ConfigError: unimodal, and the package with ImageNet's weights is not installed.
    """
    if variant == "multimodal":
        return load_pointing()
    described = json.loads((SHIPPED / DESCRIPTION).read_text())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.WEIGHTS, seed))
        vocabulary = Vocabulary(described["vocabulary"])
        tower = PointingTower(TowerConfig(**described["tower"]), vocabulary)
    if variant == "unimodal":
        tower.trunk.load_state_dict(imagenet_trunk())
    sharpened(tower).eyes.fold()
    return prepared(tower).eval()
