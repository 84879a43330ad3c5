"""Banana, positive transfer, real2sim: who practises where, by whose reward, evaluated where."""

from pathlib import Path

import pytest

import nearer.studies.banana as banana
import nearer.studies.real2sim as real2sim
import nearer.studies.running as running
import nearer.studies.transfer as transfer
from document_values import evaluation
from nearer.configs.adapt import AdaptConfig
from nearer.configs.collect import CollectConfig
from nearer.configs.eval import EvalConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.configs.sft import SFTConfig
from nearer.core.callbacks import ProgressCallback
from nearer.evaluation.success import Evaluation
from nearer.studies.families import families_recipe
from nearer.studies.recipe import Recipe

Steps = list[tuple[str, ...]]


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Record what a study does in place of doing it; a practised policy solves more."""
    done: Steps = []

    def name(path: Path) -> str:
        return str(path.relative_to(tmp_path))

    def collect(config: CollectConfig, on_progress: ProgressCallback) -> int:
        done.append(("collect", config.env, name(config.out), str(config.episodes)))
        return config.episodes

    def sft(recipe: Recipe, on_progress: ProgressCallback) -> None:
        config: SFTConfig = recipe.sft
        done.append(("sft", name(Path(config.data)), str(config.calibration.env)))

    def practise(recipe: Recipe, on_progress: ProgressCallback) -> int:
        config: ImproveConfig = recipe.improve
        reward = name(config.reward) if config.reward else "its own"
        done.append(("practise", config.env, name(config.run), reward, name(config.out)))
        return 250

    def evaluate(config: EvalConfig, on_progress: ProgressCallback) -> Evaluation:
        done.append(("eval", config.env, name(config.checkpoint)))
        assert config.out is not None or config.checkpoint.name.startswith("practice")
        return evaluation(9 if "practice" in config.checkpoint.name else 4, 12)

    def adapt(config: AdaptConfig, on_progress: ProgressCallback) -> Path:
        done.append(("adapt", name(config.run), name(Path(config.data))))
        return config.out

    for module in (banana, transfer, real2sim):
        monkeypatch.setattr(module, "ensure_demonstrations", collect)
        monkeypatch.setattr(module, "ensure_sft", sft)
        monkeypatch.setattr(module, "ensure_practice", practise)
    monkeypatch.setattr(running, "run_eval", evaluate)
    monkeypatch.setattr(real2sim, "run_adapt", adapt)
    return done


def config_in(folder: Path) -> ReproduceConfig:
    return ReproduceConfig(out=folder, seeds=(3,), demonstrations=900)


def test_banana_is_practised_by_the_practised_policy_with_stage_ones_reward(
    steps: Steps, tmp_path: Path
) -> None:
    before, after = banana.reproduce_banana(config_in(tmp_path))
    assert steps == [
        ("collect", "nearer/Tabletop-v0", "families/demonstrations", "900"),
        ("sft", "families/demonstrations", "nearer/Tabletop-v0"),
        (
            *("practise", "nearer/TabletopBlock2Block-v0", "families/seed3/sft", "its own"),
            "families/seed3/practice",
        ),
        ("eval", "nearer/BananaTable-v0", "families/seed3/practice"),
        (
            *("practise", "nearer/BananaTable-v0", "families/seed3/practice"),
            *("families/seed3/sft", "families/seed3/practice-banana"),
        ),
        ("eval", "nearer/BananaTable-v0", "families/seed3/practice-banana"),
    ]
    assert (before.stage, after.stage) == (1, 2)
    assert (before.demonstrations, after.practice_episodes) == (900, 250)
    assert (tmp_path / "banana.svg").exists()


def test_transfer_evaluates_every_family_before_and_after(steps: Steps, tmp_path: Path) -> None:
    rows = transfer.reproduce_transfer(config_in(tmp_path))
    evaluated = [(step[1], step[2]) for step in steps if step[0] == "eval"]
    families = list(transfer.FAMILIES.values())
    assert evaluated == [
        *((env, "families/seed3/sft") for env in families),
        *((env, "families/seed3/practice") for env in families),
    ]
    assert [row.condition for row in rows] == 2 * list(transfer.FAMILIES)
    assert [row.n_success for row in rows] == 5 * [4] + 5 * [9]


def test_real2sim_practises_in_the_other_look_with_and_without_adapting(
    steps: Steps, tmp_path: Path
) -> None:
    rows = real2sim.reproduce_real2sim(config_in(tmp_path))
    sim, real = "nearer/TabletopBlock2Block-v0", "nearer/TabletopBlock2BlockReal-v0"
    assert steps[:2] == [
        ("collect", sim, "real2sim/demonstrations-sim", "90"),
        ("collect", real, "real2sim/demonstrations-real", "90"),
    ]
    one_way = steps[2 : 2 + (len(steps) - 2) // 2]
    assert one_way == [
        ("sft", "real2sim/demonstrations-real", real),
        ("adapt", "real2sim/seed3-real/sft", "real2sim/demonstrations-sim"),
        *for_run("sft", sim),
        *for_run("adapted", sim),
    ]
    assert [row.condition for row in rows if row.stage == 2] == [
        *("real to sim", "real to sim, adapted"),
        *("sim to real", "sim to real, adapted"),
    ]


def for_run(run: str, env: str) -> Steps:
    root = "real2sim/seed3-real"
    practice = f"{root}/practice-{run}"
    return [
        ("eval", env, f"{root}/{run}"),
        ("practise", env, f"{root}/{run}", "its own", practice),
        ("eval", env, practice),
    ]


def test_stage_one_of_all_families_reads_sides_and_new_words(tmp_path: Path) -> None:
    recipe = families_recipe(config_in(tmp_path), 0)
    assert recipe.sft.vla.mirror_swaps == ("left=right",)
    assert recipe.sft.vla.unknown_words == "skip"
