"""Ten updates of each stage, to the digits: a refactoring that changes a number fails here.

To accept new numbers, say in docs/log.md why they changed, and paste what the assertion shows.
"""

from pathlib import Path

import pytest

from nearer.algorithm.improve_settings import Practice
from nearer.algorithm.sft_settings import SFTTraining
from nearer.commands.collect import collect_demonstrations
from nearer.commands.improve import run_improve
from nearer.commands.sft import run_sft
from nearer.configs.collect import CollectConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.sft import SFTConfig
from nearer.envs.point_mass import ENV_ID
from nearer.models.settings import MLPConfig
from nearer.runs.metrics import read_metrics

HELD_OUT_BC = [2.99042, 2.97408, 2.96101, 2.95463, 2.9532]
HELD_OUT_STEPS_TO_GO = [4.95961, 4.95806, 4.95696, 4.95643, 4.95631]
PRACTICE_ENV_STEPS = [240, 480, 720, 960, 1200, 1440]
PRACTICE_RETURN = [0.01073, -0.00973, 0.00023, 0.01509, 0.00852, 0.02212]
PRACTICE_LOSS = [0.0009, -0.00159, -0.00044, 0.0019, 0.00137, 0.00282]


def test_sft_and_improve_ten_updates_have_the_golden_losses(tmp_path: Path) -> None:
    data, sft_run, run = tmp_path / "data", tmp_path / "sft", tmp_path / "run"
    collect_demonstrations(CollectConfig(env=ENV_ID, out=data, episodes=60, num_envs=20))
    training = SFTTraining(updates=10, validate_every=2, batch_size=64, warmup_updates=2)
    sizes = MLPConfig(hidden=32)
    run_sft(SFTConfig(data=str(data), model="mlp", out=sft_run, mlp=sizes, training=training))
    practice = Practice(
        max_env_steps=1_600, updates_per_iteration=2, batch_size=32, max_steps=60, seed=1
    )
    run_improve(
        ImproveConfig(
            run=sft_run, env=ENV_ID, out=run, num_envs=4, threshold=0.5, practice=practice
        )
    )

    def column(root: Path, name: str) -> list[float]:
        return [record[name] for record in read_metrics(root)]

    assert column(run, "practice/env_steps") == PRACTICE_ENV_STEPS
    for root, name, golden in (
        (sft_run, "sft/val_loss_bc", HELD_OUT_BC),
        (sft_run, "sft/val_loss_steps_to_go", HELD_OUT_STEPS_TO_GO),
        (run, "practice/return", PRACTICE_RETURN),
        (run, "practice/loss", PRACTICE_LOSS),
    ):
        assert column(root, name) == pytest.approx(golden, rel=1e-3, abs=2e-5), name
