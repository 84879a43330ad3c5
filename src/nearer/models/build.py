"""Which model a name or a config.json means."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nearer.chunking import Chunking
from nearer.errors import CheckpointError
from nearer.model import FoundationModel
from nearer.models.mlp import MLP, MLPConfig
from nearer.models.pointing.language import Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig
from nearer.models.pointing.weights import load_pointing, prepared
from nearer.models.small_vla import SmallVLA, SmallVLAConfig, words_of
from nearer.protocols import Camera, Spaces
from nearer.seeds import Purpose, episode_seed


def new_model(
    sizes: MLPConfig | SmallVLAConfig, spaces: Spaces, instructions: Sequence[str], seed: int
) -> FoundationModel:
    """Return a model for robots of these spaces: its sight pretrained, the rest untrained.

    Raises:
        ConfigError: the model needs pictures, and there are none.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.WEIGHTS, seed))
        if isinstance(sizes, MLPConfig):
            return MLP(sizes, spaces)
        return SmallVLA(sizes, spaces, words_of(instructions), load_pointing())


def build_model(config: Mapping[str, Any]) -> FoundationModel:
    """Return the model that a checkpoint's config.json describes, without its weights.

    Raises:
        CheckpointError: it describes none that this version knows.
    """
    kind = config.get("model")
    if kind not in ("mlp", "small-vla"):
        raise CheckpointError(
            f"config.json must describe a model of nearer's, mlp or small-vla, got {kind!r}; use a "
            "checkpoint that nearer sft wrote"
        )
    spaces = _spaces(config["spaces"])
    if kind == "mlp":
        return MLP(MLPConfig(**config["sizes"]), spaces)
    tower = PointingTower(TowerConfig(**config["tower"]), Vocabulary(config["vocabulary"]))
    tower.eyes.fold()  # as its weights were saved
    sizes = SmallVLAConfig(**config["sizes"])
    return SmallVLA(sizes, spaces, config["words"], prepared(tower))


def _spaces(document: Mapping[str, Any]) -> Spaces:
    return Spaces(
        agent_pos=document["agent_pos"],
        environment_state=document["environment_state"],
        action=document["action"],
        cameras=tuple(Camera(*one) for one in document.get("cameras", ())),
        control_hz=document.get("control_hz"),
        chunking=Chunking(**document.get("chunking", {})),
    )
