"""The pretraining ablation: which model is trained, practised and measured with which reward."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nearer.studies.pretraining_ablation as ablation
import nearer.studies.running as running
from document_values import calibration, choice, reward_report
from nearer.algorithm.demonstrations import leave_out
from nearer.algorithm.sft_settings import SFTTraining
from nearer.configs.eval import EvalConfig
from nearer.configs.eval_reward import EvalRewardConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.configs.sft import SFTConfig
from nearer.core.errors import ConfigError
from nearer.envs.tabletop.language import names
from nearer.envs.tabletop.layout import BLOCKS
from nearer.evaluation.calibration import write_calibration
from nearer.evaluation.reward_report import write_reward_report
from nearer.evaluation.success import EpisodeResult, Evaluation
from nearer.models.pointing.vocabulary import HELD_OUT
from nearer.models.settings import VARIANTS
from nearer.studies.pretraining_ablation import LEFT_OUT, names_left_out, reproduce_pretraining


class FakeCommands:
    """Commands that run nothing, record their configs and write what the study reads."""

    def __init__(self) -> None:
        self.sft: list[SFTConfig] = []
        self.improve: list[ImproveConfig] = []
        self.eval: list[EvalConfig] = []
        self.eval_reward: list[EvalRewardConfig] = []
        self.order: list[str] = []

    def run_eval_reward(self, config: EvalRewardConfig, on_progress: object) -> None:
        self.eval_reward.append(config)
        self.order.append("eval_reward")
        assert config.out is not None
        config.out.mkdir(parents=True)
        threshold = choice("rollouts", threshold_steps=0.75)
        detector = replace(
            threshold.at_threshold["rollouts"], precision=0.8, recall=0.2, num_detections=5
        )
        threshold = replace(threshold, at_threshold={"rollouts": detector})
        write_reward_report(config.out, replace(reward_report(), recommended=threshold))

    def run_sft(self, config: SFTConfig, on_progress: object) -> None:
        self.sft.append(config)
        self.order.append("sft")
        _finish(config.out)

    def run_improve(self, config: ImproveConfig, on_progress: object) -> None:
        self.improve.append(config)
        self.order.append("improve")
        _finish(config.out)
        kept_checkpoint = "000000" if config.reward else "000012"
        (config.out / "checkpoints" / kept_checkpoint).mkdir(parents=True)
        (config.out / "checkpoints/policy").symlink_to(kept_checkpoint)

    def run_eval(self, config: EvalConfig, on_progress: object) -> Evaluation:
        """Ten starts, four of which name a pair that may be left out; the first three succeed."""
        self.eval.append(config)
        named = ["push the blue moon to the red moon", "slide the green star to the yellow star"]
        instructions = [*named * 2, *["push the red moon to the blue cube"] * 6]
        results = [
            EpisodeResult(
                seed=i, instruction=instruction, success=i < 3, num_steps=5, actions_outside=0
            )
            for i, instruction in enumerate(instructions)
        ]
        return Evaluation(results=tuple(results), seed=0, max_steps=60, seconds=1.0)


def _finish(run: Path) -> None:
    run.mkdir(parents=True)
    (run / "FINISHED").touch()
    losses = {"sft/val_loss_bc": 4.5, "sft/val_loss_steps_to_go": 3.0}
    (run / "metrics.jsonl").write_text(
        json.dumps({"step": 1, "practice/episodes": 12, **losses}) + "\n"
    )
    stage_one_calibration = calibration(threshold_steps=0.5)
    detector = replace(
        stage_one_calibration.at_threshold["labelled rollouts"],
        precision=0.9,
        recall=0.7,
        num_detections=40,
    )
    stage_one_calibration = replace(
        stage_one_calibration,
        at_threshold={"labelled rollouts": detector},
        rank_correlation=0.5,
        reliability=replace(stage_one_calibration.reliability, mean_absolute_error_steps=5.0),
    )
    write_calibration(run, stage_one_calibration)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> FakeCommands:
    fake = FakeCommands()
    for name in ("run_sft", "run_improve", "run_eval"):
        monkeypatch.setattr(running, name, getattr(fake, name))
    monkeypatch.setattr(ablation, "ensure_collected", lambda config, on_progress: 200)
    monkeypatch.setattr(ablation, "run_eval_reward", fake.run_eval_reward)
    monkeypatch.setattr(ablation, "count_demonstrations", lambda config: 11)
    return fake


def test_reproduce_pretraining_variants_differ_in_model_and_folder_alone(
    tmp_path: Path, commands: FakeCommands
) -> None:
    reproduce_pretraining(config_of(tmp_path, few=0))
    assert [config.model for config in commands.sft] == 2 * list(VARIANTS)
    for configs in (commands.sft[:3], commands.sft[3:]):
        same = {str(replace(config, model="small-vla", out=Path())) for config in configs}
        assert len(same) == 1, "the same steps and data order"


def test_reproduce_pretraining_trains_every_encoder_through_objectives_unless_told_not_to(
    tmp_path: Path, commands: FakeCommands
) -> None:
    reproduce_pretraining(config_of(tmp_path, few=30))
    assert {config.vision_encoder_objective_updates for config in commands.sft} == {300}
    assert {"through-objectives"} == {
        name for config in commands.sft for name in config.out.parts if name.startswith("through")
    }
    without = replace(config_of(tmp_path, few=0), objective_updates=0)
    runs = ablation.variant_runs(without, 0, 10, 200)
    assert [run.recipe.sft.vision_encoder_objective_updates for run in runs] == [0, 0, 0]
    assert runs[0].recipe.sft.out == tmp_path / "seed0_percent10" / "sft", "the headline's"


def test_reproduce_pretraining_multimodal_policy_practises_with_each_reward(
    tmp_path: Path, commands: FakeCommands
) -> None:
    points = reproduce_pretraining(config_of(tmp_path, few=0))
    multimodal = commands.sft[0].out
    rewarded = {
        config.out.parent.name: config for config in commands.improve if config.reward is not None
    }
    assert rewarded.keys() == {"unimodal", "scratch"}
    for variant, config in rewarded.items():
        assert config.run == multimodal
        assert config.reward == multimodal.parent / variant / "sft"
        assert config.threshold == 0.75, "as calibrated on rollouts of the multimodal policy"
    assert [(config.checkpoint.parent.name, config.policy) for config in commands.eval_reward] == [
        ("unimodal", multimodal),
        ("scratch", multimodal),
    ]
    kept_iterations = {(p.variant, p.role): p.kept_iteration for p in points if p.stage == 2}
    assert kept_iterations == {
        (variant, role): 12 if role == "policy" or variant == "multimodal" else 0
        for variant in VARIANTS.values()
        for role in ("policy", "reward")
    }


def test_reproduce_pretraining_writes_results_and_practises_last(
    tmp_path: Path, commands: FakeCommands
) -> None:
    points = reproduce_pretraining(config_of(tmp_path, few=0))
    assert "1 of 1 kept the start" in (tmp_path / "pretraining.md").read_text()
    kinds = {(p.variant, p.stage, p.role, p.condition) for p in points}
    assert len(kinds) == len(points) == 18
    assert json.loads((tmp_path / "pretraining.json").read_text())[0]["n_success"] == 3
    assert commands.order.index("improve") == 8, "minutes before hours"


def test_reproduce_pretraining_unseen_pairs_are_counted_apart(
    tmp_path: Path, commands: FakeCommands
) -> None:
    points = reproduce_pretraining(config_of(tmp_path, few=0))
    rates = {
        condition: [(p.n_success, p.n_episodes) for p in points if p.condition == condition]
        for condition in ("unseen-pairs", "seen-pairs")
    }
    assert rates == {"unseen-pairs": [(3, 4)] * 3, "seen-pairs": [(0, 6)] * 3}
    without = [config for config in commands.sft if config.training.leave_out]
    assert len(without) == 3
    assert {config.training.leave_out for config in without} == {LEFT_OUT}
    assert all(p.demonstrations == 11 for p in points if "pairs" in p.condition)


def test_reproduce_pretraining_few_demonstrations_are_a_condition_of_stage_1(
    tmp_path: Path, commands: FakeCommands
) -> None:
    points = reproduce_pretraining(config_of(tmp_path, few=30))
    few = [config for config in commands.sft if "seed0_few30" in str(config.out)]
    assert [config.fraction * 200 for config in few] == pytest.approx([30] * 3)
    assert [(p.percent, p.condition) for p in points if p.demonstrations == 30] == [(15, "few")] * 3
    rewards = json.loads((tmp_path / "pretraining-rewards.json").read_text())
    assert [(reward["variant"], reward["demonstrations"]) for reward in rewards[-2:]] == [
        ("unimodal", 30),
        ("scratch", 30),
    ]
    assert rewards[0]["rank_correlation"] == 0.5


def test_reproduce_pretraining_second_time_runs_nothing(
    tmp_path: Path, commands: FakeCommands
) -> None:
    points = reproduce_pretraining(config_of(tmp_path, few=30))
    before = len(commands.order)
    assert reproduce_pretraining(config_of(tmp_path, few=30)) == points
    assert len(commands.order) == before


def config_of(out: Path, few: int) -> ReproduceConfig:
    return ReproduceConfig(which="pretraining", out=out, fractions=(10,), seeds=(0,), few=few)


def test_names_left_out_is_true_for_pairs_unseen_in_pretraining_alone() -> None:
    """Every wording of such a block is a phrase, and no wording of another block holds one."""
    for block in BLOCKS:
        for name in names(block, BLOCKS):
            instruction = f"push the {name} next to the green cube"
            assert names_left_out(instruction) is ((block.colour, block.shape) in HELD_OUT)
    rest = [block for block in BLOCKS if (block.colour, block.shape) not in HELD_OUT]
    for colour, shape in (("blue", "moon"), ("yellow", "star")):
        assert (colour, shape) in HELD_OUT
        assert colour in {block.colour for block in rest}
        assert shape in {block.shape for block in rest}


def test_leave_out_phrases_match_whole_words_and_keep_the_order() -> None:
    instructions = ["push the blue moon", "push the blue moonlight", "Push the BLUE  moon up", "go"]
    rows = np.array([7, 3, 9, 1])
    assert leave_out(rows, instructions, ["blue moon"]).tolist() == [3, 1]
    assert leave_out(rows, instructions, []).tolist() == rows.tolist()
    with pytest.raises(ConfigError, match="--leave-out must leave episodes"):
        leave_out(rows[:1], instructions[:1], ["moon"])
    with pytest.raises(ConfigError, match="--leave-out must be phrases"):
        SFTTraining(leave_out=("blue moon", " "))
