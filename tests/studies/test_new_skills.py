"""Banana, transfer, real2sim, ALOHA: who practises where, by whose reward, evaluated where."""

import json
from pathlib import Path

import numpy as np
import pytest

import nearer.studies.aloha as aloha
import nearer.studies.banana as banana
import nearer.studies.real2sim as real2sim
import nearer.studies.running as running
import nearer.studies.stage_success as stage_success
import nearer.studies.transfer as transfer
from document_values import evaluation
from nearer.configs.adapt import AdaptConfig
from nearer.configs.collect import CollectConfig
from nearer.configs.eval import EvalConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.configs.sft import SFTConfig
from nearer.core.callbacks import ProgressCallback
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation, ScoredEpisode
from nearer.envs.tabletop.settings import read_settings
from nearer.evaluation.success import Evaluation
from nearer.studies.banana_contacts import BananaEpisode
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
        other = () if config.model in ("small-vla", "mlp") else (config.model,)
        done.append(("sft", name(Path(config.data)), str(config.calibration.env), *other))

    def practise(recipe: Recipe, on_progress: ProgressCallback) -> int:
        config: ImproveConfig = recipe.improve
        reward = name(config.reward) if config.reward else "its own"
        done.append(("practise", config.env, name(config.run), reward, name(config.out)))
        return 250

    def evaluate(config: EvalConfig, on_progress: ProgressCallback) -> Evaluation:
        done.append(("eval", config.env, name(config.checkpoint)))
        of_its_own = config.checkpoint.name.startswith(("practice", "sft"))
        assert config.out is not None or of_its_own
        return evaluation(9 if "practice" in config.checkpoint.name else 4, 12)

    def adapt(config: AdaptConfig, on_progress: ProgressCallback) -> Path:
        done.append(("adapt", name(config.run), name(Path(config.data))))
        config.out.mkdir(parents=True)
        (config.out / "model.safetensors").touch()
        return config.out

    for module in (aloha, banana, transfer, real2sim):
        monkeypatch.setattr(module, "ensure_demonstrations", collect)
        monkeypatch.setattr(module, "ensure_sft", sft)
    for module in (banana, transfer, stage_success):
        monkeypatch.setattr(module, "ensure_practice", practise)

    def pushed(config: EvalConfig, on_progress: ProgressCallback) -> list[BananaEpisode]:
        done.append(("pushes", config.env, name(config.checkpoint)))
        return [BananaEpisode(along=(0.1, 0.9), turned_rad=1.0, success=True)] * 2

    monkeypatch.setattr(banana, "pushes_of", pushed)

    def collected(config: ReproduceConfig, on_progress: ProgressCallback) -> int:
        return 880

    monkeypatch.setattr(real2sim, "ensure_collected", collected)
    monkeypatch.setattr(running, "run_eval", evaluate)
    monkeypatch.setattr(running, "run_adapt", adapt)
    return done


def config_in(folder: Path) -> ReproduceConfig:
    return ReproduceConfig(out=folder, seeds=(3,), demonstrations=900)


def test_banana_is_practised_by_the_practised_policy_adapted(steps: Steps, tmp_path: Path) -> None:
    rows = banana.reproduce_banana(config_in(tmp_path))
    env, root = "nearer/BananaTable-v0", "families/seed3"
    adapted = f"{root}/adapted-banana"
    of_adapted = f"{root}/practice-banana"
    assert steps == [
        ("collect", "nearer/Tabletop-v0", "families/demonstrations", "2700"),
        ("sft", "families/demonstrations", "nearer/Tabletop-v0"),
        (
            *("practise", "nearer/TabletopBlock2Block-v0", f"{root}/sft", "its own"),
            f"{root}/practice",
        ),
        ("eval", env, f"{root}/practice"),
        ("collect", env, f"{root}/unlabelled-banana", "200"),
        ("adapt", f"{root}/practice", f"{root}/unlabelled-banana"),
        ("eval", env, adapted),
        ("practise", env, adapted, "its own", of_adapted),
        ("eval", env, of_adapted),
        ("pushes", env, adapted),
        ("pushes", env, of_adapted),
    ]
    assert [(row.condition, row.stage) for row in rows] == [
        ("banana, not adapted", 1),
        ("banana", 1),
        ("banana, within 60 steps", 1),
        ("banana", 2),
        ("banana, within 60 steps", 2),
    ]
    assert (rows[0].demonstrations, rows[3].practice_episodes) == (2700, 250)
    assert (tmp_path / "banana.svg").exists()
    assert "| 0.50 +- 0.00 (n = 2) |" in (tmp_path / "banana-contacts.md").read_text()
    assert (tmp_path / "banana-contacts.svg").exists()


def test_transfer_evaluates_every_family_before_and_after(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def practised(folder: Path) -> list[ScoredEpisode]:
        assert folder == tmp_path / "families/seed3/practice-mixture/practice"
        return []

    monkeypatch.setattr(transfer, "read_practice", practised)
    rows = transfer.reproduce_transfer(config_in(tmp_path))
    evaluated = [(step[1], step[2]) for step in steps if step[0] == "eval"]
    families = list(transfer.FAMILIES.values())
    root = "families/seed3"
    assert evaluated == [
        (env, f"{root}/{run}")
        for run in ("sft", "practice", "practice-mixture")
        for env in families
    ]
    names = list(transfer.FAMILIES)
    assert [row.condition for row in rows if row.stage == 2] == [
        *names,
        *(f"{name}, all practised" for name in names),
    ]
    assert {(row.stage, row.n_success) for row in rows} == {(1, 4), (2, 9)}
    assert json.loads((tmp_path / "transfer-resets.json").read_text()) == [
        {"seed": 3, "episodes": 0, "resets": 0}
    ]


def test_mixture_is_practised_from_the_easiest_family_on(tmp_path: Path) -> None:
    recipe = transfer.mixture_recipe(families_recipe(config_in(tmp_path), 0))
    settings = read_settings(**recipe.improve.env_settings.kwargs)
    assert recipe.improve.env == "nearer/Tabletop-v0"
    assert [str(family) for family in settings.families_in(0)] == ["point"]
    assert len(settings.families_in(transfer.MIXTURE_EPISODES)) == 5
    assert settings.board_episodes > 1
    assert recipe.improve.plateau.keep == "last"


def episode(robot: int, start: float, end: float) -> Episode:
    agent_pos = np.array([[start, 0.0], [end, 0.0]], np.float32)
    observation = Observation(agent_pos=agent_pos, environment_state=np.zeros((2, 0), np.float32))
    return Episode(
        robot=robot,
        seed=0,
        instruction="go",
        policy_version=0,
        observations=EncodedObservation.without_features(observation),
        actions=np.zeros((1, 2), np.float32),
        log_prob=np.zeros(1, np.float32),
        ended=Ended.TIME_LIMIT,
    )


def test_num_resets_counts_starts_elsewhere_than_the_last_end() -> None:
    acted = [(0, 1, 2), (1, 5, 6), (0, 2, 3), (1, 6.5, 7), (1, 7, 8), (0, 3, 3)]
    assert transfer.num_resets([episode(*one) for one in acted]) == 3


def test_real2sim_practises_in_the_other_look_with_and_without_adapting(
    steps: Steps, tmp_path: Path
) -> None:
    rows = real2sim.reproduce_real2sim(config_in(tmp_path))
    sim, real = "nearer/TabletopBlock2Block-v0", "nearer/TabletopBlock2BlockReal-v0"
    assert steps[:2] == [
        ("collect", sim, "real2sim/demonstrations-sim", "90"),
        ("collect", real, "real2sim/demonstrations-real", "90"),
    ]
    root, data = "real2sim/seed3-real", "real2sim/demonstrations-real"
    unimodal, of_unimodal = f"{root}/sft-unimodal", f"{root}/practice-unimodal-reward"
    real_to_sim = [
        ("sft", data, real),
        ("adapt", f"{root}/sft", "real2sim/demonstrations-sim"),
        ("sft", data, real, "small-vla-unimodal"),
        *for_run("sft", sim, root),
        *for_run("adapted", sim, root),
        # the Stage 1 of the first row, whose evaluation is on disk outside this test
        ("eval", sim, f"{root}/sft"),
        ("practise", sim, f"{root}/sft", unimodal, of_unimodal),
        ("eval", sim, of_unimodal),
    ]
    root, data = "real2sim/seed3-sim", "real2sim/demonstrations-sim"
    sim_to_real = [
        ("sft", data, sim),
        ("adapt", f"{root}/sft", "real2sim/demonstrations-real"),
        *for_run("sft", real, root),
        *for_run("adapted", real, root),
    ]
    in_domain = [
        ("eval", sim, "real2sim/seed3-sim/sft"),
        ("eval", real, "real2sim/seed3-real/sft"),
        ("sft", "demonstrations", sim),
        ("eval", sim, "seed3_percent20/sft"),
        ("sft", "demonstrations", sim),
        ("eval", sim, "seed3_percent80/sft"),
    ]
    assert steps[2:] == [*real_to_sim, *sim_to_real, *in_domain]
    assert [row.condition for row in rows if row.stage == 2] == [
        *("real to sim", "real to sim, adapted", "real to sim, unimodal reward"),
        *("sim to real", "sim to real, adapted"),
    ]
    assert [(row.condition, row.demonstrations) for row in rows[-4:]] == [
        ("sim, as much data", 90),
        ("real, as much data", 90),
        ("sim, 20 % of the data", 176),
        ("sim, 80 % of the data", 704),
    ]


def for_run(run: str, env: str, root: str) -> Steps:
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


def test_aloha_practises_from_the_smaller_parts_of_the_data(steps: Steps, tmp_path: Path) -> None:
    rows = aloha.reproduce_aloha(config_in(tmp_path))
    env = "nearer/AlohaInsertion-v0"

    def stages(percent: int, images: str = "") -> Steps:
        root = f"aloha/seed3{images}-percent{percent}"
        practice = ("practise", env, f"{root}/sft", "its own", f"{root}/practice")
        first = [("sft", f"aloha/demonstrations{images}", env), ("eval", env, f"{root}/sft")]
        practised = (percent == 100) == bool(images)
        return [*first, practice, ("eval", env, f"{root}/practice")] if practised else first

    assert steps == [
        ("collect", env, "aloha/demonstrations", "900"),
        *stages(33),
        *stages(67),
        *stages(100),
        ("collect", env, "aloha/demonstrations-images", "900"),
        *stages(33, "-images"),
        *stages(100, "-images"),
        ("collect", env, "aloha/demonstrations", "900"),
        ("sft", "aloha/demonstrations", env),
        ("eval", env, "aloha/seed3-percent33/sft-best-loss"),
    ]
    assert [(row.condition, row.stage, row.demonstrations) for row in rows] == [
        *(("a third", stage, 297) for stage in (1, 2)),
        *(("two thirds", stage, 603) for stage in (1, 2)),
        ("all", 1, 900),
        ("images, a third", 1, 297),
        *(("images, all", stage, 900) for stage in (1, 2)),
        ("a third, best held-out loss", 1, 297),
    ]
    states, images = (
        recipe_of(config_in(tmp_path), 3, 33)
        for recipe_of in (aloha.states_recipe, aloha.images_recipe)
    )
    assert states.sft.training.policy_checkpoint == "last"
    assert not states.improve.deviate.end_on_ground_truth
    assert images.improve.deviate.end_on_ground_truth
    assert images.sft.mlp.images
