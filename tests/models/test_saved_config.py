"""config.json of a checkpoint, read back into typed values."""

import json
from dataclasses import asdict, replace

import pytest

from nearer.core.action_chunks import PLAIN, Chunking
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import new_model
from nearer.models.saved_config import small_vla_config_from_json, spaces_from_json
from nearer.models.settings import SelfTrainingConfig, SmallVLAConfig

SPACES = Spaces(
    agent_pos=2,
    environment_state=0,
    action=2,
    cameras=(Camera("top", 96, 128), Camera("wrist", 8, 8)),
    control_hz=5,
)


@pytest.mark.parametrize("chunking", [PLAIN, Chunking(chunk=3, relative=True)])
def test_spaces_from_json_are_those_that_were_saved(chunking: Chunking) -> None:
    spaces = SPACES.in_chunks(chunking)
    assert spaces_from_json(json.loads(json.dumps(asdict(spaces)))) == spaces


def test_spaces_from_json_of_an_early_checkpoint_have_no_camera_and_no_chunks() -> None:
    spaces = spaces_from_json({"agent_pos": 4, "environment_state": 2, "action": 2})
    assert spaces == Spaces(agent_pos=4, environment_state=2, action=2)
    assert spaces.chunking.is_plain


def test_spaces_from_json_of_an_impossible_chunk_are_refused() -> None:
    document = asdict(SPACES) | {"chunking": {"chunk": 0}}
    with pytest.raises(ConfigError, match="--chunk must be 1 or more, got 0"):
        spaces_from_json(document)


def test_small_vla_config_from_json_is_the_one_that_was_saved() -> None:
    config = SmallVLAConfig(hidden=8, self_training=SelfTrainingConfig(batch_size=64))
    assert small_vla_config_from_json(json.loads(json.dumps(asdict(config)))) == config


def test_saved_config_of_a_model_is_read_back() -> None:
    spaces = replace(SPACES, cameras=SPACES.cameras[:1])
    config = SmallVLAConfig(hidden=8)
    model = new_model("small-vla", config, spaces, ["move it"], seed=0)
    document = json.loads(json.dumps(model.config()))
    assert spaces_from_json(document["spaces"]) == spaces
    assert small_vla_config_from_json(document["sizes"]) == config
