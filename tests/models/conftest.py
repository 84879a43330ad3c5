"""Folders of tiny dual encoders, which several test files load."""

from pathlib import Path

import pytest

from tiny_duals import KINDS, make_dual


@pytest.fixture(scope="session")
def dual_encoder_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder for every kind of dual encoder."""
    root = tmp_path_factory.mktemp("duals")
    return {kind: make_dual(root / kind, kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def dual_encoder_folder(
    request: pytest.FixtureRequest, dual_encoder_folders: dict[str, Path]
) -> Path:
    """Return the folder of each kind in turn."""
    return dual_encoder_folders[request.param]


@pytest.fixture(params=["clip", "siglip2"])
def clip_or_siglip2(request: pytest.FixtureRequest, dual_encoder_folders: dict[str, Path]) -> Path:
    """Return a CLIP's or a SigLIP 2's folder, where only the towers differ."""
    return dual_encoder_folders[request.param]


@pytest.fixture
def clip(dual_encoder_folders: dict[str, Path]) -> Path:
    """Return a CLIP's folder."""
    return dual_encoder_folders["clip"]
