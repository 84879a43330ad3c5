"""The models of gym-aloha, loaded once."""

import pytest

from nearer.envs.aloha.simulation import AlohaModel
from nearer.envs.aloha.tasks import AlohaTask


@pytest.fixture(scope="session")
def insertion() -> AlohaModel:
    pytest.importorskip("gym_aloha", reason="pip install 'nearer[aloha]'")
    return AlohaModel(AlohaTask.INSERTION)
