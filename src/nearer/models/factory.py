"""Build a model: a new one by its name, or a saved one by its checkpoint's config.json."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from nearer.algorithm.model import FoundationModel
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.memory import check_fits
from nearer.core.seeds import Purpose, episode_seed
from nearer.core.spaces import Spaces
from nearer.models.mlp import MLP
from nearer.models.pointing.efficientnet_lite0 import Lite0
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig
from nearer.models.pointing.variants import tower_of
from nearer.models.pointing.weights import channels_last, pretrained_trunk
from nearer.models.saved_config import (
    JsonObject,
    mlp_config_from_json,
    small_vla_config_from_json,
    spaces_from_json,
)
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
    """Return a model for robots with these spaces, with pretrained weights where it has some.

    Args:
        name: mlp, small-vla or one of its variants, or the hub id or folder of a vision-language
            model or dual encoder.
        sizes: its settings.
        spaces: of the robot.
        instructions: of the demonstrations.
        seed: of the weights that are not pretrained.
        sharded: processes that the model will be sharded over.

    Raises:
        ConfigError: the model needs images, and the robot has no camera, or the source is unusable.
    """
    if isinstance(sizes, MLPConfig | SmallVLAConfig):
        # A layer between two hidden ones alone; AdamW trains it in 16 bytes a weight.
        needed, what = 16 * sizes.hidden**2, f"a network with layers of {sizes.hidden:,} units"
        kind = "mlp" if isinstance(sizes, MLPConfig) else "vla"
        check_fits(needed, what, f"choose a smaller --{kind}.hidden")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.WEIGHTS, seed))
        if isinstance(sizes, MLPConfig):
            return MLP(sizes, spaces, pretrained_trunk() if sizes.images else None)
        if isinstance(sizes, SmallVLAConfig):
            variant = VARIANTS[name]
            tower = tower_of(variant, sizes.network, seed)
            if variant != "multimodal":  # the teacher was pretrained jointly
                alone = replace(sizes.self_training, teacher="itself")
                sizes = replace(sizes, self_training=alone)
            return SmallVLA(sizes, spaces, words_of(instructions), tower)
        with _needs_transformers():
            from nearer.models.vlm.dual_encoder_loading import pretrained_dual
            from nearer.models.vlm.loading import open_source, pretrained_vlm
        source = open_source(name)
        pretrained = pretrained_dual if source.is_dual else pretrained_vlm
        return pretrained(source, sizes, spaces, sharded)


def build_model(config: JsonObject, folder: Path) -> FoundationModel:
    """Return the model that a checkpoint's config.json describes, without its weights.

    Args:
        config: of the checkpoint.
        folder: of the checkpoint; it holds a tokenizer beside config.json for some models.

    Raises:
        CheckpointError: config.json names no model that this version has.
    """
    kind = config.get("model")
    if kind not in ("mlp", "small-vla", "vlm", "dual-encoder"):
        raise CheckpointError(
            "config.json must describe a model of nearer's, mlp, small-vla, vlm or dual-encoder, "
            f"got {kind!r}; use a checkpoint that nearer sft wrote"
        )
    spaces = spaces_from_json(config["spaces"])
    if kind == "mlp":
        mlp = mlp_config_from_json(config["sizes"])
        return MLP(mlp, spaces, channels_last(Lite0()) if mlp.images else None)
    if kind == "vlm":
        with _needs_transformers():
            from nearer.models.vlm.loading import vlm_from_json
        return vlm_from_json(config, spaces, folder)
    if kind == "dual-encoder":
        with _needs_transformers():
            from nearer.models.vlm.dual_encoder_loading import dual_from_json
        return dual_from_json(config, spaces, folder)
    tower = PointingTower(TowerConfig(**config["tower"]), Vocabulary(config["vocabulary"]))
    tower.fold_batch_norm()  # weights are saved with batch normalisation folded
    sizes = small_vla_config_from_json(config["sizes"])
    return SmallVLA(sizes, spaces, config["words"], channels_last(tower))


@contextmanager
def _needs_transformers() -> Generator[None, None, None]:
    """Raise ConfigError where the optional package transformers is missing."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"a vision-language model must have the package transformers, got: {error}; run "
            "pip install 'nearer[vlm]'"
        ) from error
