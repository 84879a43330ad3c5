"""Goal regions: discs learned from where demonstrations end, and what networks read of them."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from model_inputs import point_features
from nearer.algorithm.demonstrations import Demonstrations
from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import build_model, new_model
from nearer.models.goal_region import GoalRegion, offset_to_centre
from nearer.models.planar_features import PlanarFeatures, lengths
from nearer.models.settings import SmallVLAConfig
from nearer.models.small_vla import SmallVLA
from nearer.runs.checkpoint import load_model, save_checkpoint
from nearer.testing import check_model

SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("front", 96, 128),))
CORNER_M = np.array([0.15, 0.25])
CORNER_RADIUS_M, TOUCHING_M = 0.1, 0.05
TO_LEFT, TO_RIGHT = "push the star to the left corner", "push the star to the right corner"
TO_CUBE = "push the star to the cube"


def ends(rng: np.random.Generator, episodes: int) -> tuple[Array, Array, list[str]]:
    """Return first and second object in last frames, just inside the rim of what was asked for."""
    texts = [(TO_LEFT, TO_RIGHT, TO_CUBE)[row % 3] for row in range(episodes)]
    second = rng.uniform([0.2, -0.2], [0.5, 0.2], (episodes, 2))
    first = np.empty_like(second)
    for row, text in enumerate(texts):
        side = {TO_LEFT: -1, TO_RIGHT: 1}.get(text)
        centre = second[row] if side is None else CORNER_M * [1, side]
        away = np.array([0.35, 0.0]) - centre + rng.normal(0, 0.1, 2)
        inside = TOUCHING_M if side is None else CORNER_RADIUS_M
        first[row] = centre + away / np.linalg.norm(away) * (inside - rng.uniform(0, 0.004))
    return first, second, texts


def test_goal_region_after_fitting_holds_the_ends_of_other_demonstrations() -> None:
    rng = np.random.default_rng(0)
    words = sorted({word for text in (TO_LEFT, TO_RIGHT, TO_CUBE) for word in text.split()})

    def rows_of(texts: list[str]) -> list[list[int]]:
        return [[words.index(word) for word in text.split()] for text in texts]

    first, second, texts = ends(rng, 300)
    region = GoalRegion(len(words))
    tensors = torch.from_numpy(first).float(), torch.from_numpy(second).float()
    region.fit(*tensors, rows_of(texts), torch.tensor(0.06), rng)
    assert not any(weight.requires_grad for weight in region.parameters())
    left, right, cube = region(rows_of([TO_LEFT, TO_RIGHT, TO_CUBE]))
    assert left[0].item() == pytest.approx(0, abs=0.1)
    assert right[0].item() == pytest.approx(0, abs=0.1)
    assert cube[0].item() == pytest.approx(1, abs=0.1)
    first, second, texts = ends(rng, 90)
    tensors = torch.from_numpy(first).float(), torch.from_numpy(second).float()
    discs = region(rows_of(texts))
    rims = lengths(offset_to_centre(discs, *tensors)) - discs[:, 3]
    assert rims.abs().quantile(0.8).item() < 0.01
    elsewhere = lengths(offset_to_centre(discs, tensors[0].flip(0), tensors[1])) - discs[:, 3]
    assert elsewhere.median().item() > 0.05


def test_planar_features_with_goals_tell_inside_from_outside() -> None:
    features = PlanarFeatures(state=2, max_deviation=100.0, goals=True)
    disc = torch.tensor([[0.0, 0.4, 0.0, 0.1]])  # share 0: it stays where it is

    def rim(x: float) -> float:
        points = torch.tensor([[[x, 0.0], [0.9, 0.9], [0.0, 0.0]]])
        return features(points, torch.zeros(1, 2), disc)[0, -2].item()

    assert rim(0.4) == pytest.approx(-0.1)
    assert rim(0.2) == pytest.approx(0.1)
    without = PlanarFeatures(state=2, max_deviation=100.0)
    assert features.num_inputs == without.num_inputs + 7


@pytest.mark.parametrize("mirror", ["none", "y"])
def test_small_vla_learns_goal_regions_and_keeps_them(mirror: Literal["none", "y"]) -> None:
    model, demonstrations = fitted(mirror)
    check_model(model, demonstrations.inputs(slice(0, 20)))
    first, second, texts = ends(np.random.default_rng(2), 60)
    last = frames(first, second, texts).inputs(torch.arange(1, 120, 2))
    rim = model.normalised_inputs(last)[:, -2] * model.planar_features.std[-2]
    rim = rim + model.planar_features.mean[-2]
    assert rim.abs().quantile(0.8).item() < 0.015
    if mirror == "y":  # one is the other's mirror image
        discs = model.goal_discs(demonstrations.inputs(slice(0, 4)))
        assert discs is not None
        assert torch.allclose(discs[0], model.planar_features.reflected_discs(discs[2:3])[0])


def test_small_vla_of_a_checkpoint_has_its_goal_regions(tmp_path: Path) -> None:
    model, demonstrations = fitted("none")
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    inputs = demonstrations.inputs(slice(0, 20))
    assert torch.equal(model.normalised_inputs(inputs), loaded.normalised_inputs(inputs))


def test_small_vla_reads_a_synonym_as_the_word_it_stands_for() -> None:
    sizes = SmallVLAConfig(hidden=16, synonyms=("box=cube",))
    model = new_model("small-vla", sizes, SPACES, [TO_CUBE], seed=0).eval()
    inputs = frames(*ends(np.random.default_rng(4), 6)).inputs(slice(0, 6))
    read = replace(inputs, instructions=["push the star to the box"] * 6)
    meant = replace(inputs, instructions=[TO_CUBE] * 6)
    assert torch.equal(model.steps_to_go_logits(read), model.steps_to_go_logits(meant))


@pytest.mark.parametrize("pair", ["box=ball", "star=cube"])
def test_small_vla_with_synonyms_of_no_use_is_refused_in_words(pair: str) -> None:
    sizes = SmallVLAConfig(hidden=16, synonyms=(pair,))
    with pytest.raises(ConfigError, match=f"--vla.synonyms must be pairs .* got {pair}; correct"):
        new_model("small-vla", sizes, SPACES, [TO_CUBE], seed=0)


@cache
def fitted(mirror: Literal["none", "y"]) -> tuple[SmallVLA, Demonstrations]:
    swaps = ("left=right",) if mirror == "y" else ()
    sizes = SmallVLAConfig(hidden=16, goal_region=True, mirror=mirror, mirror_swaps=swaps)
    model = new_model("small-vla", sizes, SPACES, [TO_LEFT, TO_RIGHT, TO_CUBE], seed=0)
    assert isinstance(model, SmallVLA)
    demonstrations = frames(*ends(np.random.default_rng(1), 240))
    model.normalise_by(demonstrations.statistics(), torch.rand(50, 2) * 0.1 - 0.05)
    model.learn_in_hindsight(demonstrations, seed=0)
    return model.eval(), demonstrations


def frames(first: Array, second: Array, texts: list[str]) -> Demonstrations:
    """Return demonstrations of two frames each; the image shows the plane itself."""
    episodes = len(texts)
    generator = torch.Generator().manual_seed(3)
    state = torch.rand(2 * episodes, 2, generator=generator) * 0.4 + torch.tensor([0.1, -0.2])
    points = torch.empty(2 * episodes, 3, 2)
    points[0::2, 0] = torch.from_numpy(first).float() + 0.1
    points[1::2, 0] = torch.from_numpy(first).float()
    points[:, 1] = torch.from_numpy(second).float().repeat_interleave(2, dim=0)
    points[:, 2] = state
    return Demonstrations(
        state=state,
        features=point_features(points),
        actions=torch.zeros(2 * episodes, 2),
        steps_to_go=torch.tensor([1, 0] * episodes),
        episode_lengths=np.full(episodes, 2),
        instructions=tuple(texts),
        spaces=SPACES,
    )
