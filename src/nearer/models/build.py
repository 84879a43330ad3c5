"""Which model a name or a config.json means."""

from collections.abc import Mapping
from typing import Any

import torch

from nearer.demonstrations import Demonstrations
from nearer.errors import CheckpointError, ConfigError
from nearer.model import FoundationModel
from nearer.models.mlp import MLP, MLPConfig, Normalisation
from nearer.protocols import Spaces
from nearer.seeds import Purpose, episode_seed


def new_model(name: str, sizes: MLPConfig, data: Demonstrations, seed: int) -> FoundationModel:
    """Return an untrained model for these demonstrations, with their normalisation.

    Raises:
        ConfigError: no model has this name.
    """
    if name != "mlp":
        raise ConfigError(f"--model must be mlp, got {name!r}; pass --model mlp")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.WEIGHTS, seed))
        model = MLP(sizes, data.spaces)
    model.normalise_by(statistics_of(data))
    return model


def statistics_of(data: Demonstrations) -> Normalisation:
    """Return mean and standard deviation of states and actions; constants keep their unit."""
    actions = data.actions[data.acted_frames()]
    return Normalisation(
        state_mean=data.state.mean(dim=0),
        state_std=_spread(data.state),
        action_mean=actions.mean(dim=0),
        action_std=_spread(actions),
    )


def build_model(config: Mapping[str, Any]) -> FoundationModel:
    """Return the untrained model that a checkpoint's config.json describes.

    Raises:
        CheckpointError: it describes none that this version knows.
    """
    if config.get("model") != "mlp":
        raise CheckpointError(
            f"config.json must describe a model of nearer's, such as mlp, got "
            f"{config.get('model')!r}; use a checkpoint that nearer sft wrote"
        )
    return MLP(MLPConfig(**config["sizes"]), Spaces(**config["spaces"]))


def _spread(values: torch.Tensor) -> torch.Tensor:
    std = values.std(dim=0)
    return torch.where(std > 0, std, torch.ones_like(std))
