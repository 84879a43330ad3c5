"""What tests of several commands share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from commands.faulty_envs import ENVS


@pytest.fixture
def workspace(stage_one: Path, tmp_path: Path) -> Path:
    """Return a copy of the Stage-1 folder, with data/ and sft/, that a test may damage."""
    return Path(shutil.copytree(stage_one, tmp_path / "workspace", symlinks=True))


@pytest.fixture
def faulty_envs() -> Iterator[None]:
    """Register the envs of faulty_envs.py as test/NAME-v0."""
    for env in ENVS:
        env.total_steps = 0
        gymnasium.register(f"test/{env.__name__}-v0", env, disable_env_checker=True)
    yield
    for env in ENVS:
        del gymnasium.registry[f"test/{env.__name__}-v0"]
