"""`nearer adapt`: another look of the scene, learned from unlabelled episodes of it."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import nearer.models.planar_features as planar_features
from nearer.algorithm.model import ModelPolicy
from nearer.algorithm.rollout import rollout
from nearer.cli import main
from nearer.commands.adapt import run_adapt
from nearer.commands.collect import collect_demonstrations
from nearer.commands.sft import run_sft
from nearer.configs.adapt import AdaptConfig
from nearer.configs.collect import CollectConfig
from nearer.configs.sft import Calibration, SFTConfig
from nearer.core.errors import ConfigError, EnvError
from nearer.core.seeds import Purpose, episode_seeds
from nearer.datasets.lerobot.reader import open_dataset
from nearer.evaluation.ground_truth import NoTermination
from nearer.fleets.for_model import fitting_fleet
from nearer.models.factory import build_model
from nearer.models.small_vla import SmallVLA
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.studies.pretraining_ablation import REAL_ENV_ID
from nearer.studies.tabletop import tabletop
from refusals import refused


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AdaptConfig:
    """A Stage-1 run with the plain look, and four episodes with the other."""
    root = tmp_path_factory.mktemp("adapt")
    recipe = tabletop(root, seed=3, episodes=8)
    training = replace(recipe.sft.training, updates=4, validate_every=4, val_fraction=0.25)
    collect_demonstrations(recipe.collect)
    run_sft(
        replace(
            recipe.sft, vision_encoder_updates=0, training=training, calibration=Calibration(),
            cache=root / "cache",
        )
    )  # fmt: skip
    other = replace(recipe.collect, env=REAL_ENV_ID, episodes=4, out=root / "other")
    collect_demonstrations(other)
    return AdaptConfig(
        run=recipe.sft.out, data=str(other.out), updates=2, cache=root / "cache", out=root / "out"
    )


def loaded(folder: Path, link: str) -> SmallVLA:
    model = load_model(folder, build_model, link)
    assert isinstance(model, SmallVLA)
    return model


def test_adapt_trains_the_encoder_fits_the_map_and_keeps_the_rest(
    config: AdaptConfig, tmp_path: Path
) -> None:
    out = run_adapt(replace(config, out=tmp_path / "adapted"))
    before, after = loaded(config.run, "policy"), loaded(out, "policy")
    changed = {
        name
        for name, value in after.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    }
    assert {name for name in changed if not name.startswith("tower.")} == {"planar_features.plane"}
    assert any(name.startswith("tower.network.") for name in changed)
    reward = loaded(out, "reward")
    assert weights_hash(reward.tower) == weights_hash(after.tower)
    assert torch.equal(reward.planar_features.plane, after.planar_features.plane)
    calibration = (config.run / "calibration.json").read_bytes()
    assert (out / "calibration.json").read_bytes() == calibration


def test_adapt_without_updates_fits_the_map_alone(config: AdaptConfig, tmp_path: Path) -> None:
    out = run_adapt(replace(config, updates=0, out=tmp_path / "adapted"))
    before, after = loaded(config.run, "policy"), loaded(out, "policy")
    assert weights_hash(before.tower) == weights_hash(after.tower)
    assert not torch.equal(before.planar_features.plane, after.planar_features.plane)


def test_adapt_to_frames_without_a_map_to_the_plane_is_refused(
    config: AdaptConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map that cannot be fitted must not be replaced by none in silence."""
    monkeypatch.setattr(planar_features, "fit_plane", lambda points, positions: None)
    with pytest.raises(ConfigError, match="must show the effector where proprioception has it"):
        run_adapt(replace(config, updates=0, out=tmp_path / "adapted"))
    assert not (tmp_path / "adapted").exists()


def test_adapted_model_is_evaluated_and_practises(config: AdaptConfig, tmp_path: Path) -> None:
    out = run_adapt(replace(config, updates=0, out=tmp_path / "adapted"))
    env = ["--env", REAL_ENV_ID, "--num-envs", "2", "--max-steps", "4"]
    eval_options = ["--episodes", "2", "--videos", "0", "--out", str(tmp_path / "eval")]
    main(["eval", "--checkpoint", str(out), *env, *eval_options])
    assert (tmp_path / "eval/eval_info.json").exists()
    sizes = ["--updates-per-iteration", "1", "--batch-size", "8", "--max-env-steps", "20"]
    practice = ["--out", str(tmp_path / "practice"), "--threshold", "0.01", *sizes]
    main(["improve", "--run", str(out), *env, *practice])
    assert (tmp_path / "practice/FINISHED").exists()


def test_adapt_prints_where_the_model_is(
    config: AdaptConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapted"
    folders = ["--run", config.run, "--data", config.data, "--out", out, "--cache", config.cache]
    main(["adapt", *map(str, folders), "--updates", "0", "--episodes", "2"])
    assert f"the adapted model is in {out}" in capsys.readouterr().out


def test_adapt_into_a_folder_that_holds_something_is_refused(
    config: AdaptConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "adapt", "--run", config.run, "--data", config.data, "--out", config.run)
    assert "--out must be a new or empty folder" in said


def test_adapt_of_a_model_without_a_vision_encoder_is_refused(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(
        capsys, "adapt", "--run", workspace / "sft", "--data", workspace / "data",
        "--out", tmp_path / "adapted",
    )  # fmt: skip
    assert "must be a model whose vision encoder trains itself, small-vla, got mlp" in said
    assert not (tmp_path / "adapted").exists()


def test_adapt_to_the_episodes_of_the_policy_itself(config: AdaptConfig, tmp_path: Path) -> None:
    """Collect --policy writes every episode with its images; sft does not learn from them."""
    own = tmp_path / "own"
    number = collect_demonstrations(
        CollectConfig(
            env=REAL_ENV_ID, policy=config.run, episodes=3, max_steps=6, min_observations=5,
            num_envs=2, out=own,
        )
    )  # fmt: skip
    assert number == 3
    assert open_dataset(own).episode_lengths.tolist() == [7, 7, 7]
    out = run_adapt(replace(config, data=str(own), updates=1, out=tmp_path / "adapted"))
    assert weights_hash(loaded(out, "policy").tower) != weights_hash(
        loaded(config.run, "policy").tower
    )
    with pytest.raises(ConfigError, match="all episodes of the policy"):
        run_sft(SFTConfig(data=str(own), model="small-vla", out=tmp_path / "sft"))


def test_collect_of_a_policy_acts_as_in_an_evaluation(config: AdaptConfig, tmp_path: Path) -> None:
    """Images encoded by the policy itself lead to the same actions as encoded by the fleet."""
    own = tmp_path / "own"
    settings = CollectConfig(
        env=REAL_ENV_ID, policy=config.run, episodes=2, max_steps=6, num_envs=2, out=own,
        min_observations=5,
    )  # fmt: skip
    collect_demonstrations(settings)
    model = loaded(config.run, "policy")
    fleet = fitting_fleet(REAL_ENV_ID, 2, model, max_steps=6)
    seeds = islice(episode_seeds(Purpose.DEMONSTRATION, settings.seed), 2)
    episodes = list(rollout(fleet, ModelPolicy(model), NoTermination(), seeds=seeds, max_steps=6))
    fleet.close()
    recorded = open_dataset(own).columns["action"].reshape(2, 7, -1)
    for row, episode in enumerate(episodes):
        np.testing.assert_array_equal(recorded[row, :6], episode.actions)


def test_collect_of_a_policy_without_room_for_its_observations_is_refused(
    config: AdaptConfig, tmp_path: Path
) -> None:
    own = CollectConfig(
        env=REAL_ENV_ID,
        policy=config.run,
        episodes=2,
        max_steps=3,
        num_envs=2,
        out=tmp_path / "own",
    )
    with pytest.raises(EnvError, match="--max-steps 3 must leave room for --min-observations 10"):
        collect_demonstrations(own)
    assert not own.out.exists()
