"""The ladder of pretraining: three sights of one architecture, and whose reward judges whom."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import nearer.ladder as ladder
import nearer.reproduce as room
from nearer.configs import EvalConfig, ImproveConfig, SFTConfig
from nearer.evaluate import EpisodeResult, Evaluation
from nearer.ladder import LadderPoint, pretraining_table, reproduce_pretraining
from nearer.models.build import build_model, new_model
from nearer.models.pointing.rungs import RUNGS, tower_of
from nearer.models.small_vla import SmallVLA, SmallVLAConfig
from nearer.protocols import Camera, Spaces
from nearer.reproduce import ReproduceConfig

SPACES = Spaces(
    agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 96, 128),), control_hz=5
)


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([one.flatten() for one in module.state_dict().values()])


def test_rungs_have_one_architecture_and_other_weights() -> None:
    towers = [tower_of(rung, seed=0) for rung in RUNGS.values()]
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
    for name, rung in RUNGS.items():
        model = new_model(name, SmallVLAConfig(hidden=8), SPACES, ["push the disc"], seed=0)
        errors: list[float] = []
        for colour, (row, column) in places.items():
            looks = model.sight.look({"top": picture}, [f"push the {colour} disc"])
            u, v = looks.reshape(-1, 2, 3)[0, 0, :2]
            errors.append(float(np.hypot(u - column / 128, v - row / 96)))
        missed[rung] = max(errors)
    assert missed["multimodal"] < 0.1
    assert min(missed["unimodal"], missed["scratch"]) > 0.2


def test_a_checkpoint_of_a_rung_is_one_of_the_built_in_model(tmp_path: Path) -> None:
    model = new_model("small-vla-scratch", SmallVLAConfig(hidden=8), SPACES, ["push it"], seed=1)
    assert isinstance(model, SmallVLA)
    again = build_model(model.config(), tmp_path)
    again.load_state_dict(model.state_dict())
    assert again.sight.identity == model.sight.identity


class Fake:
    """Runs nothing, and remembers what was asked for."""

    def __init__(self) -> None:
        self.sft: list[SFTConfig] = []
        self.improve: list[ImproveConfig] = []
        self.eval: list[EvalConfig] = []

    def run_sft(self, config: SFTConfig, watch: object) -> None:
        self.sft.append(config)
        _finish(config.out)

    def run_improve(self, config: ImproveConfig, watch: object) -> None:
        self.improve.append(config)
        _finish(config.out)

    def run_eval(self, config: EvalConfig, watch: object) -> Evaluation:
        self.eval.append(config)
        results = [
            EpisodeResult(seed=i, instruction="go", success=i < 3, num_steps=5) for i in range(10)
        ]
        return Evaluation(results=tuple(results), seed=0, max_steps=60, seconds=1.0)


def _finish(run: Path) -> None:
    run.mkdir(parents=True)
    (run / "FINISHED").touch()
    (run / "metrics.jsonl").write_text(json.dumps({"practice/episodes": 12}) + "\n")


def test_the_reward_comes_from_each_and_the_policy_from_the_multimodal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake()
    for name in ("run_sft", "run_improve", "run_eval"):
        monkeypatch.setattr(room, name, getattr(fake, name))
    monkeypatch.setattr(ladder, "whole_data", lambda config, watch: 200)
    config = ReproduceConfig(which="pretraining", out=tmp_path, shares=(10,), seeds=(0,))
    found = reproduce_pretraining(config)

    assert [one.model for one in fake.sft] == list(RUNGS)
    same = {str(replace(one, model="", out=Path())) for one in fake.sft}
    assert len(same) == 1, "the same steps and data order"
    multimodal = fake.sft[0].out
    judged = {one.out.parent.name: one for one in fake.improve if one.reward is not None}
    assert judged.keys() == {"unimodal", "scratch"}
    for rung, one in judged.items():
        assert one.run == multimodal
        assert one.reward == multimodal.parent / rung / "sft"
    kinds = {(one.rung, one.stage, one.role, one.measure) for one in found}
    assert len(kinds) == len(found) == 12
    assert json.loads((tmp_path / "pretraining.json").read_text())[0]["n_success"] == 3


def test_the_table_stands_beside_the_papers() -> None:
    found = [
        LadderPoint(
            share=10, stage=2, seed=seed, rung="scratch", role="reward", measure="trained",
            demonstrations=20, practice_episodes=3, n_success=4 + seed, n_episodes=10,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    row = pretraining_table(found).splitlines()[4]
    assert row.startswith("| 10 % | scratch | - | - | - | 0.450 [")
    assert row.endswith("(n = 20) | 0.452 |")
