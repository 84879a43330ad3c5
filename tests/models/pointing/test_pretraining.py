"""Pretraining's renderer in parts: outlines, ground, camera effects, settings, variants."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from nearer.core.errors import ConfigError
from nearer.models.pointing.efficientnet_lite0 import Lite0, folded
from nearer.models.pointing.pretraining.camera_effects import with_camera_effects
from nearer.models.pointing.pretraining.corpus import draw_example
from nearer.models.pointing.pretraining.objectives import UnimodalObjective
from nearer.models.pointing.pretraining.outlines import OUTLINES
from nearer.models.pointing.pretraining.renderer import on_image
from nearer.models.pointing.pretraining.scene import HEIGHT_PX, WIDTH_PX, draw_scene
from nearer.models.pointing.pretraining.settings import PretrainConfig
from nearer.models.pointing.pretraining.surfaces import draw_surface
from nearer.models.pointing.sentence_encoder import Vocabulary
from nearer.models.pointing.tower import PointingTower, TowerConfig
from nearer.models.pointing.variants import tower_of


@pytest.mark.parametrize("shape", OUTLINES)
def test_outline_of_every_shape_but_the_heart_is_counter_clockwise(shape: str) -> None:
    outline = OUTLINES[shape](np.random.default_rng(0))
    x, y = outline.T
    area = 0.5 * float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    assert (area > 0) == (shape != "heart")
    assert 0.7 < np.hypot(x, y).max() < 1.5


def test_draw_surface_is_twice_the_image_with_the_board_in_another_material() -> None:
    rng = np.random.default_rng(3)
    scene = draw_scene(rng)
    surface = draw_surface(scene.camera, scene.board, rng)
    assert surface.size == (2 * WIDTH_PX, 2 * HEIGHT_PX)
    centre = on_image(scene.camera, scene.board.mean(axis=0)[None], 0.0)[0]
    assert 0 < centre[0] < WIDTH_PX
    assert 0 < centre[1] < HEIGHT_PX


def test_camera_effects_halve_the_size_and_keep_the_mean_colour() -> None:
    grey = Image.new("RGB", (2 * WIDTH_PX, 2 * HEIGHT_PX), (120, 120, 120))
    images = [with_camera_effects(grey, np.random.default_rng(seed)) for seed in range(20)]
    assert {image.shape for image in images} == {(HEIGHT_PX, WIDTH_PX, 3)}
    assert 90 < np.mean(images) < 150


def test_lite0_with_folded_batch_norm_equals_convolution_then_norm() -> None:
    """The stem alone: weights of one convolution and its statistics, by torch's own batch norm."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 32, 3, stride=2, bias=False)
    norm = torch.nn.BatchNorm2d(32, eps=1e-3)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    lite0 = Lite0()
    published = {"_conv_stem.weight": conv.weight}
    published |= {f"_bn0.{name}": value for name, value in norm.state_dict().items()}
    identity = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    number = {"expand": 0, "depthwise": 1, "project": 2}
    for name, weight in lite0.named_parameters():  # the blocks' norms are not under test
        if name.startswith("blocks.") and name.endswith("weight"):
            _, index, layer, _ = name.split(".")
            published[f"_blocks.{index}._{layer}_conv.weight"] = weight
            for value, constant in identity.items():
                key = f"_blocks.{index}._bn{number[layer]}.{value}"
                published[key] = torch.full((len(weight),), constant)
    lite0.load_state_dict(folded(published))
    images = torch.randn(2, 3, 9, 9)
    expected = norm.eval()(conv(images))
    assert torch.allclose(lite0.stem(images), expected, atol=1e-4)


def test_unimodal_objective_trains_the_unet_and_neither_words_nor_teacher() -> None:
    torch.manual_seed(0)
    tower = PointingTower(TowerConfig(network="unet"), Vocabulary(["red"])).train()
    objective = UnimodalObjective(Lite0(), tower.config.width)
    examples = [draw_example(np.random.default_rng(seed)) for seed in range(3)]
    loss = objective(tower, examples, np.random.default_rng(0))["features"]
    assert loss.item() > 0
    loss.backward()
    trained = {name for name, weight in tower.named_parameters() if weight.grad is not None}
    assert trained == {f"network.{name}" for name, _ in tower.network.named_parameters()}
    assert objective.regressor.weight.grad is not None
    assert not any(weight.requires_grad for weight in objective.teacher.parameters())


def test_tower_of_scratch_differs_between_seeds_alone() -> None:
    first, same, other = (
        tower_of("scratch", "unet", seed).network.key.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_pretrain_config_of_an_impossible_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="--images must be 1 or more, got 0"):
        PretrainConfig(images=0)


def test_factory_import_does_not_load_pretraining() -> None:
    code = (
        "import sys, nearer.models.factory; "
        "assert not [m for m in sys.modules if m.startswith('nearer.models.pointing.pretraining')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
