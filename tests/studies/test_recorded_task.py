"""A task of another simulator: its recipe is what its data set was collected with."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from nearer.commands.collect import collect_demonstrations
from nearer.configs.collect import CollectConfig
from nearer.configs.demo import DemoConfig
from nearer.core.errors import ConfigError
from nearer.fleets.env_settings import EnvSettings
from nearer.studies.recorded_task import recorded_task


def recorded(out: Path, env: str, env_kwargs: Mapping[str, object]) -> Path:
    """Return a folder that says it holds demonstrations of this env."""
    config = CollectConfig(env="nearer/PointMass-v0", out=out, episodes=4, max_steps=70)
    collect_demonstrations(config)
    header = json.loads((out / "run.json").read_text())
    header["config"]["env"] = env
    header["config"]["env_settings"]["env_kwargs"] = [json.dumps(env_kwargs)]
    (out / "run.json").write_text(json.dumps(header))
    return out


def test_recipe_practises_where_it_was_recorded_and_tests_other_goals(tmp_path: Path) -> None:
    kwargs = {"env_name": "push-v3", "seed": 0, "num_goals": 50}
    data = recorded(tmp_path / "data", "Meta-World/MT1", kwargs)
    recipe = recorded_task("metaworld", data, tmp_path / "out", seed=2)
    settings = EnvSettings(env_kwargs=(json.dumps(kwargs),))
    for config in (recipe.sft.calibration, recipe.improve):
        assert config.env == "Meta-World/MT1"
        assert config.env_settings.kwargs == settings.kwargs
    for evaluation in (recipe.eval_sft, recipe.eval_improve):
        assert evaluation.env_settings.kwargs == {**kwargs, "seed": 2}
        assert (evaluation.max_steps, evaluation.seed) == (70, 0)
    assert recipe.improve.practice.max_steps == 70
    assert recipe.sft.mlp.num_bins == 71
    assert (recipe.sft.training.seed, recipe.improve.practice.seed) == (2, 2)


def test_recipe_without_its_data_names_the_script_that_records_it(tmp_path: Path) -> None:
    sentence = r"--data must name demonstrations of pusht, got none; pip .*pusht_pusher.py --out"
    with pytest.raises(ConfigError, match=sentence):
        recorded_task("pusht", None, tmp_path)
    data = recorded(tmp_path / "data", "Meta-World/MT1", {})
    with pytest.raises(ConfigError, match=r"of gym_pusht/PushT-v0, got .*, of Meta-World/MT1;"):
        recorded_task("pusht", data, tmp_path)


def test_what_a_domain_does_not_use_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--episodes must be left out with pusht, whose .* 12;"):
        DemoConfig(which="pusht", data=Path("data"), episodes=12)
    with pytest.raises(ConfigError, match="--data must be left out with tabletop, which collects"):
        DemoConfig(which="tabletop", data=Path("data"))
