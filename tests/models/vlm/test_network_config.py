"""A config.json of a stranger: a network that its weights do not fill is never built."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from nearer.core.errors import CheckpointError
from nearer.models.vlm.loading import open_source
from nearer.models.vlm.network_config import network_config, num_parameters, weight_shapes
from tiny_vlms import make_vlm


@pytest.fixture(scope="module")
def smolvlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vlm(tmp_path_factory.mktemp("smolvlm"), "smolvlm")


def document_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("hidden_size", 10**6, r"got those of a smaller one than its [\d,]{13,} weights"),
        ("intermediate_size", 10**9, r"got those of a smaller one than its [\d,]{13,} weights"),
        ("num_hidden_layers", 10**6, "a smaller one than its 1,000,000 layers"),
        ("hidden_size", -4, "that transformers can build a network of"),
        ("num_attention_heads", 0, "that transformers can build a network of"),
        ("hidden_size", "abc", "that transformers can build a network of"),
    ],
)
def test_network_of_other_sizes_than_its_weights_is_refused_at_once(
    part: str, key: str, value: object, sentence: str, smolvlm: Path
) -> None:
    document = document_of(smolvlm)
    document[part][key] = value
    begun = time.monotonic()
    with pytest.raises(CheckpointError, match=sentence) as caught:
        network_config(document, smolvlm)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < 20  # building what it says takes minutes, and gigabytes


def test_network_of_the_sizes_of_its_weights_is_accepted(smolvlm: Path) -> None:
    config = network_config(document_of(smolvlm), smolvlm)
    assert config.text_config.hidden_size == 32
    assert open_source(str(smolvlm)).config.to_dict() == config.to_dict()
    embeddings = (config.text_config.vocab_size, 32)
    assert embeddings in weight_shapes(smolvlm)
    assert num_parameters(smolvlm) > math.prod(embeddings)
