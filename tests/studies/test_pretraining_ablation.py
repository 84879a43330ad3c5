"""The ladder of pretraining: three sights of one architecture, and whose reward judges whom."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import nearer.studies.headline as room
import nearer.studies.pretraining_ablation as ladder
from nearer.algorithm.demonstrations import leave_out
from nearer.algorithm.sft_settings import SFTTraining
from nearer.configs.eval import EvalConfig
from nearer.configs.eval_reward import EvalRewardConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.configs.sft import SFTConfig
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.envs.tabletop.language import names
from nearer.envs.tabletop.layout import BLOCKS
from nearer.evaluation.success import EpisodeResult, Evaluation
from nearer.models.factory import build_model, new_model
from nearer.models.pointing.variants import tower_of
from nearer.models.pointing.vocabulary import HELD_OUT
from nearer.models.settings import VARIANTS, SmallVLAConfig
from nearer.models.small_vla import SmallVLA
from nearer.studies.pretraining_ablation import LEFT_OUT, names_left_out, reproduce_pretraining
from nearer.studies.pretraining_table import LadderPoint, pretraining_table

SPACES = Spaces(
    agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 96, 128),), control_hz=5
)


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([one.flatten() for one in module.state_dict().values()])


def test_rungs_have_one_architecture_and_other_weights() -> None:
    towers = [tower_of(variant, seed=0) for variant in VARIANTS.values()]
    shapes = [{k: v.shape for k, v in one.state_dict().items()} for one in towers]
    assert shapes[0] == shapes[1] == shapes[2]
    trunks = [flat(one.trunk) for one in towers]
    torch.testing.assert_close(trunks[0], trunks[1], rtol=0.01, atol=0.01)  # both from ImageNet
    assert (trunks[1] - trunks[2]).abs().mean() > 0.02
    words = [flat(one.words) for one in towers]
    assert torch.equal(words[1], words[2]), "what is not pretrained is drawn by the seed alone"
    assert not torch.equal(words[0], words[1])


def test_only_joint_pretraining_points_at_what_is_named() -> None:
    """Two discs on a grey table, red and green; asked for one, then for the other."""
    rows, columns = np.mgrid[:96, :128]
    places = {"red": (30, 30), "green": (66, 100)}
    picture = np.full((1, 96, 128, 3), 150, np.uint8)
    for (row, column), colour in zip(places.values(), ((200, 20, 20), (20, 160, 40)), strict=True):
        picture[0, np.hypot(rows - row, columns - column) < 7] = colour
    missed: dict[str, float] = {}
    for name, variant in VARIANTS.items():
        model = new_model(name, SmallVLAConfig(hidden=8), SPACES, ["push the disc"], seed=0)
        errors: list[float] = []
        for colour, (row, column) in places.items():
            looks = model.vision_encoder.encode({"top": picture}, [f"push the {colour} disc"])
            u, v = looks.reshape(-1, 2, 3)[0, 0, :2]
            errors.append(float(np.hypot(u - column / 128, v - row / 96)))
        missed[variant] = max(errors)
    assert missed["multimodal"] < 0.1
    assert min(missed["unimodal"], missed["scratch"]) > 0.2


def test_a_checkpoint_of_a_rung_is_one_of_the_built_in_model(tmp_path: Path) -> None:
    model = new_model("small-vla-scratch", SmallVLAConfig(hidden=8), SPACES, ["push it"], seed=1)
    assert isinstance(model, SmallVLA)
    again = build_model(model.config(), tmp_path)
    again.load_state_dict(model.state_dict())
    assert again.vision_encoder.identity == model.vision_encoder.identity


class Fake:
    """Runs nothing, and remembers what was asked for."""

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
        chosen = {"rollouts": {"precision": 0.8, "recall": 0.2, "fired": 5}}
        document = {"threshold_steps": 0.75, "chosen": chosen}
        (config.out / "calibration.json").write_text(json.dumps(document))

    def run_sft(self, config: SFTConfig, on_progress: object) -> None:
        self.sft.append(config)
        self.order.append("sft")
        _finish(config.out)

    def run_improve(self, config: ImproveConfig, on_progress: object) -> None:
        self.improve.append(config)
        self.order.append("improve")
        _finish(config.out)
        kept = "000000" if config.reward else "000012"
        (config.out / "checkpoints" / kept).mkdir(parents=True)
        (config.out / "checkpoints/policy").symlink_to(kept)

    def run_eval(self, config: EvalConfig, on_progress: object) -> Evaluation:
        """Ten starts, four of which name a pair that may be left out; the first three succeed."""
        self.eval.append(config)
        asked = ["push the blue moon to the red moon", "slide the green star to the yellow star"]
        asked = [*asked * 2, *["push the red moon to the blue cube"] * 6]
        results = [
            EpisodeResult(seed=i, instruction=one, success=i < 3, num_steps=5)
            for i, one in enumerate(asked)
        ]
        return Evaluation(results=tuple(results), seed=0, max_steps=60, seconds=1.0)


def _finish(run: Path) -> None:
    run.mkdir(parents=True)
    (run / "FINISHED").touch()
    losses = {"sft/val_loss_bc": 4.5, "sft/val_loss_steps_to_go": 3.0}
    (run / "metrics.jsonl").write_text(json.dumps({"practice/episodes": 12, **losses}) + "\n")
    document = {
        "threshold_steps": 0.5,
        "steps_to_go": {"mean_absolute_error_steps": 5.0, "rank_correlation": 0.5},
        "chosen": {"labelled rollouts": {"precision": 0.9, "recall": 0.7, "fired": 40}},
    }
    (run / "calibration.json").write_text(json.dumps(document))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    for name in ("run_sft", "run_improve", "run_eval"):
        monkeypatch.setattr(room, name, getattr(made, name))
    monkeypatch.setattr(ladder, "whole_data", lambda config, on_progress: 200)
    monkeypatch.setattr(ladder, "run_eval_reward", made.run_eval_reward)
    monkeypatch.setattr(ladder, "_kept", lambda config: 11)
    return made


def test_the_reward_comes_from_each_and_the_policy_from_the_multimodal(
    tmp_path: Path, fake: Fake
) -> None:
    config = ReproduceConfig(which="pretraining", out=tmp_path, fractions=(10,), seeds=(0,), few=0)
    found = reproduce_pretraining(config)

    assert [one.model for one in fake.sft] == 2 * list(VARIANTS)
    for trained in (fake.sft[:3], fake.sft[3:]):
        same = {str(replace(one, model="", out=Path())) for one in trained}
        assert len(same) == 1, "the same steps and data order"
    multimodal = fake.sft[0].out
    judged = {one.out.parent.name: one for one in fake.improve if one.reward is not None}
    assert judged.keys() == {"unimodal", "scratch"}
    for variant, one in judged.items():
        assert one.run == multimodal
        assert one.reward == multimodal.parent / variant / "sft"
        assert one.threshold == 0.75, "as calibrated on what the multimodal policy does"
    assert [(one.checkpoint.parent.name, one.policy) for one in fake.eval_reward] == [
        ("unimodal", multimodal),
        ("scratch", multimodal),
    ]
    kept = {(one.variant, one.role): one.kept_iteration for one in found if one.stage == 2}
    assert kept == {
        (variant, role): 12 if role == "policy" or variant == "multimodal" else 0
        for variant in VARIANTS.values()
        for role in ("policy", "reward")
    }
    assert "1 of 1 kept the start" in (tmp_path / "pretraining.md").read_text()
    kinds = {(one.variant, one.stage, one.role, one.measure) for one in found}
    assert len(kinds) == len(found) == 18
    assert json.loads((tmp_path / "pretraining.json").read_text())[0]["n_success"] == 3
    assert fake.order.index("improve") == 8, "minutes before hours"


def test_what_was_not_trained_is_measured_apart(tmp_path: Path, fake: Fake) -> None:
    config = ReproduceConfig(which="pretraining", out=tmp_path, fractions=(10,), seeds=(0,), few=30)
    found = reproduce_pretraining(config)

    of = {
        measure: [(one.n_success, one.n_episodes) for one in found if one.measure == measure]
        for measure in ("unseen-pairs", "seen-pairs")
    }
    assert of == {"unseen-pairs": [(3, 4)] * 3, "seen-pairs": [(0, 6)] * 3}
    left = [one for one in fake.sft if one.training.leave_out]
    assert len(left) == 3
    assert {one.training.leave_out for one in left} == {LEFT_OUT}
    assert all(one.demonstrations == 11 for one in found if "pairs" in one.measure)
    few = [one for one in fake.sft if "few" in str(one.out)]
    assert [config.fraction * 200 for config in few] == pytest.approx([30] * 3)
    assert [(one.share, one.measure) for one in found if one.demonstrations == 30] == [
        (15, "few")
    ] * 3
    judges = json.loads((tmp_path / "pretraining-judges.json").read_text())
    assert [(one["rung"], one["demonstrations"]) for one in judges[-2:]] == [
        ("unimodal", 30),
        ("scratch", 30),
    ]
    assert judges[0]["rank_correlation"] == 0.5

    before = len(fake.order)
    assert reproduce_pretraining(config) == found
    assert len(fake.order) == before, "what is on disk is not done again"


def test_pairs_left_out_are_new_to_pretraining_and_their_parts_are_not() -> None:
    """Every wording of such a block is a phrase, and no wording of another block holds one."""
    for block in BLOCKS:
        for name in names(block, BLOCKS):
            sentence = f"push the {name} next to the green cube"
            assert names_left_out(sentence) is ((block.colour, block.shape) in HELD_OUT)
    rest = [block for block in BLOCKS if (block.colour, block.shape) not in HELD_OUT]
    for colour, shape in (("blue", "moon"), ("yellow", "star")):
        assert (colour, shape) in HELD_OUT
        assert colour in {block.colour for block in rest}
        assert shape in {block.shape for block in rest}


def test_leaving_out_takes_whole_words_and_keeps_the_order() -> None:
    asked = ["push the blue moon", "push the blue moonlight", "Push the BLUE  moon up", "stay"]
    rows = np.array([7, 3, 9, 1])
    assert leave_out(rows, asked, ["blue moon"]).tolist() == [3, 1]
    assert leave_out(rows, asked, []).tolist() == rows.tolist()
    with pytest.raises(ConfigError, match="--leave-out must leave episodes"):
        leave_out(rows[:1], asked[:1], ["moon"])
    with pytest.raises(ConfigError, match="--leave-out must be phrases"):
        SFTTraining(leave_out=("blue moon", " "))


def test_the_table_stands_beside_the_papers() -> None:
    found = [
        LadderPoint(
            share=10, stage=2, seed=seed, variant="scratch", role="reward", measure="trained",
            demonstrations=20, practice_episodes=3, n_success=4 + seed, n_episodes=10,
            kept_iteration=2,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    row = pretraining_table(found).splitlines()[4]
    assert row.startswith("| 10 % | scratch | - | - | - | - | - | - | 0.450 [")
    assert row.endswith("(n = 20) | 0.452 |")
