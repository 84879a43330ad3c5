"""The MuJoCo models of the tabletop: coordinates that both share, and what each leaves out."""

import numpy as np
import pytest

from nearer.envs.tabletop.appearance import REAL, SIM, Appearance
from nearer.envs.tabletop.layout import BANANA, BLOCKS, Block
from nearer.envs.tabletop.meshes import radius_of_gyration_m
from nearer.envs.tabletop.mujoco_model import (
    OBSERVATION_QUALITY,
    PRESENTATION_QUALITY,
    TIMESTEP_S,
    physics_model,
    render_model,
)


@pytest.mark.parametrize("appearance", [SIM, REAL], ids=["sim", "real"])
@pytest.mark.parametrize("blocks", [BLOCKS, (BANANA,)], ids=["blocks", "banana"])
def test_models_share_their_coordinates(blocks: tuple[Block, ...], appearance: Appearance) -> None:
    physics = physics_model(blocks, appearance)
    rendered = render_model(blocks, appearance, OBSERVATION_QUALITY, 48, 64)
    assert physics.nq == rendered.nq == 3 * len(blocks) + 2
    assert physics.opt.timestep == pytest.approx(TIMESTEP_S)


def test_physics_model_block_has_the_mass_and_inertia_of_its_shape() -> None:
    model = physics_model(BLOCKS, SIM)
    body = model.body("blue cube")
    assert body.mass == pytest.approx(SIM.block_mass_kg)
    assert body.inertia[2] == pytest.approx(SIM.block_mass_kg * radius_of_gyration_m("cube") ** 2)


def test_render_model_has_no_colliders() -> None:
    model = render_model(BLOCKS, SIM, OBSERVATION_QUALITY, 48, 64)
    assert not np.any(model.geom_contype)
    assert not np.any(model.geom_conaffinity)


def test_render_model_presentation_quality_has_more_faces() -> None:
    faces = [
        render_model(BLOCKS, SIM, quality, 48, 64).nmeshface
        for quality in (OBSERVATION_QUALITY, PRESENTATION_QUALITY)
    ]
    assert faces[0] < faces[1]
