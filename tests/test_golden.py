"""Ten updates of each stage, to the digits: a refactoring that changes a number is seen here.

To accept new numbers, say in docs/log.md why they changed, and paste what the assertion shows.
"""

from pathlib import Path

import pytest
import torch

from nearer.checkpoint import TrainingState
from nearer.commands import collect_demonstrations, run_improve, run_sft
from nearer.configs import CollectConfig, ImproveConfig, SFTConfig
from nearer.envs.point_mass import ENV_ID
from nearer.improve import Practice
from nearer.models.mlp import MLPConfig
from nearer.run import read_metrics
from nearer.sft import SFTTraining

SFT_HELD_OUT = [(0.0, 0.0)]
PRACTICE = [(0, 0.0, 0.0)]


def test_golden_losses(tmp_path: Path) -> None:
    assert TrainingState is not None
    torch.set_num_threads(1)
    data, sft_run, run = tmp_path / "data", tmp_path / "sft", tmp_path / "run"
    collect_demonstrations(CollectConfig(env=ENV_ID, out=data, episodes=60, robots=20))
    training = SFTTraining(updates=10, validate_every=2, batch_size=64)
    run_sft(SFTConfig(data=str(data), out=sft_run, mlp=MLPConfig(hidden=32), training=training))
    held_out = [
        (record["sft/held_out_loss_bc"], record["sft/held_out_loss_steps_to_go"])
        for record in read_metrics(sft_run)
    ]
    practice = Practice(
        max_env_steps=1_600, updates_per_iteration=2, batch_size=32, max_steps=60, seed=1
    )
    run_improve(
        ImproveConfig(run=sft_run, env=ENV_ID, out=run, robots=4, threshold=0.5, practice=practice)
    )
    practised = [
        (record["practice/env_steps"], record["practice/return"], record["practice/loss"])
        for record in read_metrics(run)
    ]
    assert held_out == pytest.approx(SFT_HELD_OUT, rel=1e-4)
    assert practised == pytest.approx(PRACTICE, rel=1e-3)
