"""Both stages with pretrained models; a resumed Stage 1 gives the same bits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nearer.algorithm.improve_settings import Practice
from nearer.algorithm.sft_settings import SFTTraining
from nearer.commands.collect import collect_demonstrations
from nearer.commands.eval import run_eval
from nearer.commands.improve import run_improve
from nearer.commands.sft import run_sft
from nearer.configs.collect import CollectConfig
from nearer.configs.eval import EvalConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.sft import Calibration, SFTConfig
from nearer.core.callbacks import Progress
from nearer.evaluation.calibration import read_calibration
from nearer.models.factory import build_model
from nearer.models.settings import VLMConfig
from nearer.models.vlm.dual_encoder import DualEncoder
from nearer.models.vlm.vlm import VLM
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.runs.metrics import read_metrics
from tiny_duals import make_dual
from tiny_vlms import make_vlm

ENV = "nearer/TabletopBlock2Block-v0"
STEPS = 6


@pytest.fixture(scope="module")
def stage_one(tmp_path_factory: pytest.TempPathFactory) -> SFTConfig:
    """Return the settings of a tiny Stage 1 with its data set and model; it has not run."""
    root = tmp_path_factory.mktemp("vlm")
    data = CollectConfig(env=ENV, out=root / "data", episodes=4, num_envs=4, max_steps=60, seed=3)
    collect_demonstrations(data)
    make_dual(root / "dual", "clip")
    return SFTConfig(
        data=str(data.out),
        model=str(make_vlm(root / "model", "smolvlm")),
        out=root / "sft",
        cache=root / "cache",
        training=SFTTraining(updates=4, batch_size=4, validate_every=2, warmup_updates=1),
        calibration=Calibration(env=ENV, rollouts=2, rollout_steps=STEPS),
    )


class Stopped(Exception):
    """Simulates a kill."""


def stop_after_first_checkpoint(progress: Progress) -> None:
    if progress.stage == "SFT" and progress.done == 2:
        raise Stopped


def final_state(run: Path) -> tuple[str, list[float]]:
    losses = [row["sft/val_loss_steps_to_go"] for row in read_metrics(run)]
    return weights_hash(load_model(run, build_model, "last")), losses


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("model", VLMConfig()),
        ("model", VLMConfig(tower="trained")),
        ("model", VLMConfig(adapt="lora", precision="bfloat16")),
        ("dual", VLMConfig()),
    ],
    ids=["full", "tower", "lora", "dual"],
)
def test_sft_of_a_pretrained_model_resumes_to_the_same_bits_and_practises(
    stage_one: SFTConfig, model: str, settings: VLMConfig, tmp_path: Path
) -> None:
    pretrained = str(Path(stage_one.model).with_name(model))
    whole = replace(stage_one, model=pretrained, vlm=settings, out=tmp_path / "whole")
    run_sft(whole)
    stopped = replace(whole, out=tmp_path / "stopped")
    with pytest.raises(Stopped):
        run_sft(stopped, stop_after_first_checkpoint)
    run_sft(replace(stopped, resume=True))
    assert final_state(stopped.out) == final_state(whole.out)
    assert isinstance(read_calibration(whole.out / "calibration.json", "").threshold_steps, float)

    practice = Practice(
        max_env_steps=60, updates_per_iteration=2, batch_size=6, max_steps=STEPS, learning_rate=1e-3
    )
    improve = ImproveConfig(
        run=whole.out,
        env=ENV,
        out=tmp_path / "practice",
        num_envs=2,
        threshold=1.0,
        practice=practice,
    )
    run_improve(improve)
    before, after = (load_model(run, build_model, "last") for run in (whole.out, improve.out))
    assert isinstance(before, VLM | DualEncoder)
    assert isinstance(after, VLM | DualEncoder)
    towers = [weights_hash(torch.nn.ModuleList(model.tower)) for model in (before, after)]
    assert towers[0] == towers[1], "Stage 2 must not train the tower"
    assert weights_hash(before) != weights_hash(after)
    evaluation = run_eval(
        EvalConfig(checkpoint=improve.out, env=ENV, episodes=2, num_envs=2, max_steps=3, videos=0)
    )
    assert evaluation.success.total == 2
