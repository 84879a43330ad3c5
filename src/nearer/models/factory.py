"""Which model a name or a config.json means."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nearer.algorithm.model import FoundationModel
from nearer.core.action_chunks import Chunking
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.seeds import Purpose, episode_seed
from nearer.core.spaces import Camera, Spaces
from nearer.models.mlp import MLP
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig
from nearer.models.pointing.variants import tower_of
from nearer.models.pointing.weights import prepared
from nearer.models.settings import VARIANTS, MLPConfig, SmallVLAConfig, VLMConfig
from nearer.models.small_vla import SmallVLA, words_of


def new_model(
    name: str,
    sizes: MLPConfig | SmallVLAConfig | VLMConfig,
    spaces: Spaces,
    instructions: Sequence[str],
    seed: int,
    sharded: int = 1,
) -> FoundationModel:
    """Return a model for robots of these spaces: what is pretrained of it, the rest untrained.

    Args:
        name: mlp, small-vla or one of its rungs, or the hub id or folder of a vision-language model
            or dual encoder.
        sizes: its settings.
        spaces: of the robot.
        instructions: of the demonstrations.
        seed: of the weights that are not pretrained.
        sharded: processes that will have a part of the model each.

    Raises:
        ConfigError: the model needs pictures, and there are none, or it cannot serve.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.WEIGHTS, seed))
        if isinstance(sizes, MLPConfig):
            return MLP(sizes, spaces)
        if isinstance(sizes, SmallVLAConfig):
            tower = tower_of(VARIANTS[name], seed)
            return SmallVLA(sizes, spaces, words_of(instructions), tower)
        with _needs_transformers():
            from nearer.models.vlm.dual_encoder_loading import pretrained_dual
            from nearer.models.vlm.loading import open_source, pretrained_vlm
        source = open_source(name)
        pretrained = pretrained_dual if source.is_dual else pretrained_vlm
        return pretrained(source, sizes, spaces, sharded)


def build_model(config: Mapping[str, Any], folder: Path) -> FoundationModel:
    """Return the model that a checkpoint's config.json describes, without its weights.

    Args:
        config: of the checkpoint.
        folder: that it lies in.

    Raises:
        CheckpointError: it describes none that this version knows.
    """
    kind = config.get("model")
    if kind not in ("mlp", "small-vla", "vlm", "dual-encoder"):
        raise CheckpointError(
            "config.json must describe a model of nearer's, mlp, small-vla, vlm or dual-encoder, "
            f"got {kind!r}; use a checkpoint that nearer sft wrote"
        )
    spaces = _spaces(config["spaces"])
    if kind == "mlp":
        return MLP(MLPConfig(**config["sizes"]), spaces)
    if kind == "vlm":
        with _needs_transformers():
            from nearer.models.vlm.loading import saved_vlm
        return saved_vlm(config, spaces, folder)
    if kind == "dual-encoder":
        with _needs_transformers():
            from nearer.models.vlm.dual_encoder_loading import saved_dual
        return saved_dual(config, spaces, folder)
    tower = PointingTower(TowerConfig(**config["tower"]), Vocabulary(config["vocabulary"]))
    tower.eyes.fold()  # as its weights were saved
    sizes = SmallVLAConfig(**config["sizes"])
    return SmallVLA(sizes, spaces, config["words"], prepared(tower))


@contextmanager
def _needs_transformers() -> Generator[None, None, None]:
    """Turn a missing extra into a sentence."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"a vision-language model must have the package transformers, got: {error}; run "
            "pip install 'nearer[vlm]'"
        ) from error


def _spaces(document: Mapping[str, Any]) -> Spaces:
    return Spaces(
        agent_pos=document["agent_pos"],
        environment_state=document["environment_state"],
        action=document["action"],
        cameras=tuple(Camera(*one) for one in document.get("cameras", ())),
        control_hz=document.get("control_hz"),
        chunking=Chunking(**document.get("chunking", {})),
    )
