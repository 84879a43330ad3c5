"""The paper's headline at our size: few demonstrations and practice against many demonstrations.

Block2Block from images and language; Stage 1 on 10, 20 and 80 % of one data set of our own, Stage 2
from each (paper, table 1 and fig. 4); of the smallest fraction also Stage 2 by algorithm 1 without
deviations, and the curve of success over further episodes. Success is the simulator's ground truth.
What is on disk is not run again, so a run of hours may be killed at any time.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from nearer.algorithm.improve_settings import Deviations
from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.studies.headline_results import (
    Algorithm,
    Measurement,
    headline_figure,
    headline_table,
)
from nearer.studies.recipe import Recipe
from nearer.studies.running import (
    ensure_demonstrations,
    ensure_practice,
    ensure_sft,
    eval_of_checkpoint,
    load_or_run_eval,
    write_files,
)
from nearer.studies.sample_efficiency import (
    EfficiencyPoint,
    demonstrated_points,
    efficiency_svg,
    efficiency_table,
    practised_points,
)
from nearer.studies.tabletop import STUDY, Sizes, tabletop


def reproduce(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[Measurement]:
    """Run what is missing and return all measurements; files are written as results come."""
    total = ensure_collected(config, on_progress)
    measurements: list[Measurement] = []
    points: list[EfficiencyPoint] = []
    few = min(config.fractions)
    for seed in config.seeds:
        for percent in config.fractions:
            recipe = recipe_for(config, seed, percent)
            demonstrations = round(total * percent / 100)
            stages = list(measure_stages(recipe, seed, percent, demonstrations, on_progress))
            measurements += stages
            write_results(config.out, measurements, points)
            if percent == few:
                points += practised_points(recipe, stages[0], on_progress)
                without = without_deviations(recipe, config)
                measurements.append(
                    measure_practice(without, stages[0], "algorithm 1", on_progress)
                )
                write_results(config.out, measurements, points)
    return measurements


def ensure_collected(config: ReproduceConfig, on_progress: ProgressCallback) -> int:
    """Collect the data set of all fractions, and return its number of demonstrations."""
    recipe = tabletop(config.out, 0, config.demonstrations, config.quick, _sizes(config))
    collect = replace(recipe.collect, out=config.out / "demonstrations")
    return ensure_demonstrations(collect, on_progress)


def recipe_for(config: ReproduceConfig, seed: int, percent: int) -> Recipe:
    """Return the configs of one seed and fraction; all use the same data set."""
    folder = config.out / f"seed{seed}_percent{percent}"
    recipe = tabletop(folder, seed, quick=config.quick, sizes=_sizes(config))
    data = config.out / "demonstrations"
    plateau = replace(recipe.improve.plateau, keep_all=True)
    return replace(
        recipe,
        sft=replace(recipe.sft, data=str(data), fraction=percent / 100),
        improve=replace(recipe.improve, plateau=plateau),
        eval_sft=replace(recipe.eval_sft, videos=0),
        eval_improve=replace(recipe.eval_improve, videos=0),
    )


def _sizes(config: ReproduceConfig) -> Sizes:
    return replace(
        STUDY,
        demonstrations=config.demonstrations,
        practice_steps=config.practice_steps,
        evaluation_episodes=config.episodes,
    )


def without_deviations(recipe: Recipe, config: ReproduceConfig) -> Recipe:
    """Return the same recipe with Stage 2 by algorithm 1 as the paper has it."""
    out = recipe.improve.out.with_name("practice-algorithm-1")
    practice = recipe.improve.practice
    if not config.quick:
        practice = replace(practice, max_env_steps=config.algorithm_1_steps)
    return replace(
        recipe,
        improve=replace(recipe.improve, out=out, deviate=Deviations(), practice=practice),
        eval_improve=replace(recipe.eval_improve, checkpoint=out),
    )


def measure_stages(
    recipe: Recipe, seed: int, percent: int, demonstrations: int, on_progress: ProgressCallback
) -> Iterator[Measurement]:
    """Yield the measurements of both stages at one seed and fraction, running what is missing."""
    ensure_sft(recipe, on_progress)
    success = load_or_run_eval(recipe.eval_sft, on_progress).success
    stage_1 = Measurement(
        percent=percent,
        stage=1,
        seed=seed,
        demonstrations=demonstrations,
        practice_episodes=0,
        n_success=success.successes,
        n_episodes=success.total,
    )
    yield stage_1
    yield measure_practice(recipe, stage_1, "recipe", on_progress)


def measure_practice(
    recipe: Recipe, stage_1: Measurement, algorithm: Algorithm, on_progress: ProgressCallback
) -> Measurement:
    """Return the measurement of Stage 2 from a Stage 1; the last policy is evaluated as well."""
    episodes = ensure_practice(recipe, on_progress)
    kept, last = (
        eval_of_checkpoint(recipe, recipe.improve.out / "checkpoints" / link, on_progress).success
        for link in ("policy", "last")
    )
    return replace(
        stage_1,
        stage=2,
        practice_episodes=episodes,
        n_success=kept.successes,
        n_success_last=last.successes,
        algorithm=algorithm,
    )


def write_results(
    folder: Path, measurements: Sequence[Measurement], points: Sequence[EfficiencyPoint] = ()
) -> None:
    """Write tables, figures and numbers, each whole or not at all."""
    records = [asdict(measurement) for measurement in measurements]
    texts = {
        "headline.json": json.dumps(records, indent=1) + "\n",
        "headline.md": headline_table(measurements),
        "headline.svg": headline_figure(measurements),
    }
    if points:
        both = [*points, *demonstrated_points(measurements)]
        first = min(measurement.demonstrations for measurement in measurements)
        texts |= {
            "efficiency.json": json.dumps([asdict(point) for point in both], indent=1) + "\n",
            "efficiency.md": efficiency_table(both),
            "efficiency.svg": efficiency_svg(both, first),
        }
    write_files(folder, texts)
