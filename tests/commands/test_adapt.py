"""`nearer adapt`: another look of the scene, learned from unlabelled episodes of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import nearer.models.planar_features as planar_features
from nearer.cli import main
from nearer.commands.adapt import run_adapt
from nearer.commands.collect import collect_demonstrations
from nearer.commands.sft import run_sft
from nearer.configs.adapt import AdaptConfig
from nearer.configs.sft import Calibration
from nearer.core.errors import ConfigError
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
