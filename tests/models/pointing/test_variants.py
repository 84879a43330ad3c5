"""The variants of pretraining: one architecture, different weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import build_model, new_model
from nearer.models.pointing.variants import tower_of
from nearer.models.settings import VARIANTS, Network, SmallVLAConfig
from nearer.models.small_vla import SmallVLA

SPACES = Spaces(
    agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 96, 128),), control_hz=5
)


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in module.state_dict().values()])


@pytest.mark.parametrize("network", ["lite0", "unet"])
def test_tower_of_variants_have_one_architecture_and_other_weights(network: Network) -> None:
    towers = [tower_of(variant, network, seed=0) for variant in VARIANTS.values()]
    shapes = [
        {name: tensor.shape for name, tensor in tower.state_dict().items()} for tower in towers
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    networks = [flat(tower.network) for tower in towers]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (networks[one] - networks[other]).abs().mean() > 0.01
    words = [flat(tower.words) for tower in towers]
    assert torch.equal(words[1], words[2]), "what is not pretrained is drawn by the seed alone"
    assert not torch.equal(words[0], words[1])


def test_new_model_of_a_lower_variant_has_no_pretrained_teacher() -> None:
    for name, variant in VARIANTS.items():
        model = new_model(name, SmallVLAConfig(hidden=8), SPACES, ["push it"], seed=0)
        assert isinstance(model, SmallVLA)
        expected = "lite0" if variant == "multimodal" else "itself"
        assert model.sizes.self_training.teacher == expected


def test_vision_encoder_multimodal_variant_alone_points_at_the_named_colour() -> None:
    """Two discs on a grey table, red and green; one is named, then the other."""
    rows, columns = np.mgrid[:96, :128]
    places = {"red": (30, 30), "green": (66, 100)}
    image = np.full((1, 96, 128, 3), 150, np.uint8)
    for (row, column), colour in zip(places.values(), ((200, 20, 20), (20, 160, 40)), strict=True):
        image[0, np.hypot(rows - row, columns - column) < 7] = colour
    max_error: dict[str, float] = {}
    for name, variant in VARIANTS.items():
        model = new_model(name, SmallVLAConfig(hidden=8), SPACES, ["push the disc"], seed=0)
        assert model.vision_encoder is not None
        errors: list[float] = []
        for colour, (row, column) in places.items():
            encoding = model.vision_encoder.encode({"top": image}, [f"push the {colour} disc"])
            u, v = encoding.reshape(-1, 2, 3)[0, 0, :2]
            errors.append(float(np.hypot(u - column / 128, v - row / 96)))
        max_error[variant] = max(errors)
    assert max_error["multimodal"] < 0.1
    assert min(max_error["unimodal"], max_error["scratch"]) > 0.2


def test_build_model_of_a_variant_gives_the_same_vision_encoder(tmp_path: Path) -> None:
    model = new_model("small-vla-scratch", SmallVLAConfig(hidden=8), SPACES, ["push it"], seed=1)
    assert isinstance(model, SmallVLA)
    rebuilt = build_model(model.config(), tmp_path)
    rebuilt.load_state_dict(model.state_dict())
    assert rebuilt.vision_encoder is not None
    assert rebuilt.vision_encoder.identity == model.vision_encoder.identity
