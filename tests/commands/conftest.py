"""What tests of several commands share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from commands.fake_hub import FakeHub
from commands.faulty_envs import ENVS
from nearer.models.pretrained import from_pretrained
from nearer.runs.checkpoint import save_checkpoint
from nearer.runs.files import replace_link


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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """Replace HfApi by a fake, and let huggingface_hub look in its cache alone."""
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return fake


@pytest.fixture
def run(stage_one: Path, tmp_path: Path) -> Path:
    """Return a Stage-1 run whose reward model has other weights than its policy."""
    root = Path(shutil.copytree(stage_one / "sft", tmp_path / "sft", symlinks=True))
    reward = from_pretrained(root, "reward")
    with torch.no_grad():
        for weights in reward.parameters():
            weights.add_(0.01)
    save_checkpoint(root / "checkpoints/000007", reward, None)
    replace_link(root / "checkpoints/reward", root / "checkpoints/000007")
    return root
