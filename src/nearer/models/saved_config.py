"""What a checkpoint's config.json says of a model, read back into typed values."""

from collections.abc import Mapping
from typing import Any

from nearer.core.action_chunks import Chunking
from nearer.core.spaces import Camera, Spaces
from nearer.models.settings import MLPConfig, SelfTrainingConfig, SmallVLAConfig

JsonObject = Mapping[str, Any]
"""A JSON object: config.json of a checkpoint, or what a hub's model has beside its weights."""


def spaces_from_json(document: JsonObject) -> Spaces:
    """Return the spaces of the robot that a model was built for."""
    return Spaces(
        agent_pos=document["agent_pos"],
        environment_state=document["environment_state"],
        action=document["action"],
        cameras=tuple(Camera(*camera) for camera in document.get("cameras", ())),
        control_hz=document.get("control_hz"),
        chunking=Chunking(**document.get("chunking", {})),
    )


def mlp_config_from_json(document: JsonObject) -> MLPConfig:
    """Return the settings of an MLP."""
    sizes = dict(document)
    sizes["grippers"] = tuple(sizes.get("grippers", ()))
    return MLPConfig(**sizes)


def small_vla_config_from_json(document: JsonObject) -> SmallVLAConfig:
    """Return the settings of a built-in model."""
    self_training = SelfTrainingConfig(**document["self_training"])
    sizes = {name: value for name, value in document.items() if name != "self_training"}
    for name in ("mirror_swaps", "synonyms"):
        sizes[name] = tuple(sizes.get(name, ()))
    return SmallVLAConfig(**sizes, self_training=self_training)
