"""Other people's tasks: three of Meta-World from their states, each as `nearer demo metaworld`.

Demonstrations are those of Meta-World's own experts with a hand that wavers, recorded by
examples/demonstrators/metaworld_expert.py; test starts have goals that are in no demonstration.
"""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.errors import ConfigError, DatasetError
from nearer.datasets.lerobot.reader import open_dataset
from nearer.studies.recorded_task import recorded_task
from nearer.studies.running import ensure_sft
from nearer.studies.stage_success import StageSuccess, practised_stages, write_stages

TASKS = ("pick-place-v3", "push-v3", "peg-insert-side-v3")
"""What they were chosen by: docs/results.md."""
_SCRIPT = "metaworld_expert.py"
_TRIED = 60
_TITLE = "Success before and after practice, three tasks of Meta-World"


def reproduce_metaworld(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[StageSuccess]:
    """Run what is missing and return all results; files are written as results come.

    Raises:
        ConfigError: demonstrations are missing, and so is what records them.
    """
    rows: list[StageSuccess] = []
    for seed in config.seeds:
        for task in TASKS:
            for row in _measure(config, seed, task, on_progress):
                rows.append(row)
                write_stages(config.out, _TITLE, rows)
    return rows


def _measure(
    config: ReproduceConfig, seed: int, task: str, on_progress: ProgressCallback
) -> Iterator[StageSuccess]:
    folder = config.out / "metaworld" / task
    data = folder / "demonstrations"
    demonstrations = _ensure_recorded(config.demonstrators / _SCRIPT, task, data)
    recipe = recorded_task("metaworld", data, folder / f"seed{seed}", seed, config.quick)
    ensure_sft(recipe, on_progress)
    yield from practised_stages(recipe, "metaworld", task, seed, demonstrations, on_progress)


def _ensure_recorded(script: Path, task: str, data: Path) -> int:
    """Record demonstrations unless they are there, and return how many there are."""
    done = data / "COMPLETE"
    if not done.exists():
        if find_spec("metaworld") is None:
            raise ConfigError(
                "nearer reproduce metaworld must find Meta-World, which is not installed; "
                "pip install 'nearer[metaworld]'"
            )
        if not script.exists():
            raise ConfigError(
                f"--demonstrators must be the folder that holds {_SCRIPT}, got {script.parent}; "
                "run it where nearer's repository is, whose examples/demonstrators is that folder"
            )
        command = [sys.executable, str(script), task]
        command += ["--episodes", str(_TRIED), "--out", str(data)]
        if (data / "run.json").exists():
            command.append("--resume")
        if code := subprocess.run(command, check=False).returncode:
            raise DatasetError(
                f"{script} must record demonstrations of {task} in {data}, got exit status {code}; "
                "what it said stands above"
            )
        done.touch()
    return open_dataset(data).info.total_episodes
