"""Where a command writes unless --out says so."""

import re
from pathlib import Path

import pytest

from nearer.configs.demo import DemoConfig
from nearer.configs.folders import OUTPUTS, beside, placed
from nearer.configs.report import ReportConfig
from nearer.configs.sft import SFTConfig
from nearer.core.errors import ConfigError


@pytest.mark.parametrize(
    ("config", "command", "name"),
    [
        (DemoConfig(which="point-mass"), "demo", "point-mass"),
        (SFTConfig(data="user/name", model="mlp"), "sft", "mlp"),
    ],
)
def test_placed_without_out_is_a_new_folder_by_date_and_name(
    config: DemoConfig | SFTConfig, command: str, name: str
) -> None:
    folder = placed(config, command).out
    pattern = rf"outputs/{command}/\d{{4}}-\d\d-\d\d/\d\d-\d\d-\d\d_{name}"
    assert re.fullmatch(pattern, folder.as_posix()), folder


def test_placed_with_out_or_without_a_folder_is_unchanged(tmp_path: Path) -> None:
    for config in (DemoConfig(out=tmp_path), ReportConfig(runs=(tmp_path,))):
        assert placed(config, "demo") is config


def test_placed_resume_without_the_runs_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match="must come with the run's folder, got none; pass --out"):
        placed(SFTConfig(resume=True), "sft")


def test_beside_is_in_the_run_or_for_a_hub_id_in_outputs(tmp_path: Path) -> None:
    assert beside(tmp_path, "eval") == tmp_path / "eval"
    assert beside(Path("user/name"), "eval") == OUTPUTS / "eval/user_name"
