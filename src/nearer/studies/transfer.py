"""Positive transfer: what practice of block to block does for every other instruction."""

from collections.abc import Iterator

from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.studies.families import FAMILIES, evaluated_in, families_recipe
from nearer.studies.running import ensure_demonstrations, ensure_practice, ensure_sft
from nearer.studies.stage_success import StageSuccess, before_practice, write_stages

_TITLE = "Success by family of instructions, before and after practice of block to block alone"


def reproduce_transfer(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[StageSuccess]:
    """Run what is missing and return all results; files are written as results come."""
    rows: list[StageSuccess] = []
    for seed in config.seeds:
        for row in _measure(config, seed, on_progress):
            rows.append(row)
            write_stages(config.out, _TITLE, rows)
    return rows


def _measure(
    config: ReproduceConfig, seed: int, on_progress: ProgressCallback
) -> Iterator[StageSuccess]:
    recipe = families_recipe(config, seed)
    demonstrations = ensure_demonstrations(recipe.collect, on_progress)
    ensure_sft(recipe, on_progress)
    before: dict[str, StageSuccess] = {}
    for family, env in FAMILIES.items():
        success = evaluated_in(recipe, recipe.sft.out, env, on_progress).success
        before[family] = before_practice("transfer", family, seed, demonstrations, success)
        yield before[family]
    episodes = ensure_practice(recipe, on_progress)
    for family, env in FAMILIES.items():
        success = evaluated_in(recipe, recipe.improve.out, env, on_progress).success
        yield before[family].then(success, episodes)
