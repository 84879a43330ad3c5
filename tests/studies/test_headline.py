"""The headline: its table and figure; finished runs on disk are not run again."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import nearer.studies.headline as headline
import nearer.studies.running as running
from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ignore_progress
from nearer.evaluation.success import EpisodeResult, Evaluation
from nearer.studies.headline import write_results
from nearer.studies.headline_results import Measurement, headline_table


def measurement(percent: int, stage: int, seed: int, n_success: int) -> Measurement:
    return Measurement(
        percent=percent,
        stage=stage,
        seed=seed,
        demonstrations=20 * percent,
        practice_episodes=1000 * (stage - 1),
        n_success=n_success,
        n_episodes=100,
        n_success_last=n_success - 2 if stage == 2 else None,
    )


def evaluation(won: int, lost: int) -> Evaluation:
    results = [
        EpisodeResult(seed=i, instruction="go", success=i < won, num_steps=5, actions_outside=0)
        for i in range(won + lost)
    ]
    return Evaluation(results=tuple(results), seed=0, max_steps=60, seconds=1.0)


MEASUREMENTS = [
    measurement(10, 1, 0, 50),
    measurement(10, 2, 0, 70),
    measurement(10, 1, 1, 60),
    measurement(10, 2, 1, 90),
    measurement(30, 1, 0, 80),
    measurement(30, 2, 0, 85),
]


def test_headline_table_of_two_seeds_pools_them_beside_the_papers() -> None:
    ten, thirty = headline_table(MEASUREMENTS).splitlines()[2:4]
    assert "| 0.550 [0.481, 0.617] (n = 200) | 0.800 [0.739, 0.850] (n = 200) |" in ten
    assert "0.500 -> 0.700, 0.600 -> 0.900 | +0.250 [-0.386, +0.886] |" in ten
    assert "| -0.020, -0.020 |" in ten
    assert thirty.endswith("0.800 -> 0.850 | +0.050 | -0.020 | - |")


def test_headline_table_compares_the_smallest_fraction_practised_with_the_largest() -> None:
    largest = [replace(m, percent=80, n_success=m.n_success - 5) for m in MEASUREMENTS[:4]]
    table = headline_table([*MEASUREMENTS[:4], *largest])
    assert "10 % and practice less 80 % without: +0.300 [-0.336, +0.936] over seeds." in table
    assert "without:" not in headline_table(MEASUREMENTS[:4])


def test_headline_table_of_algorithm_1_has_a_row_of_its_own() -> None:
    other = replace(MEASUREMENTS[1], n_success=55, algorithm="algorithm 1")
    rows = headline_table([*MEASUREMENTS[:4], other]).splitlines()[2:4]
    assert [row.split("|")[1].strip() for row in rows] == ["10 %", "10 %, algorithm 1"]
    assert "0.500 -> 0.550 | +0.050 |" in rows[1]


def test_write_results_writes_numbers_and_a_figure(tmp_path: Path) -> None:
    write_results(tmp_path, MEASUREMENTS)
    records = json.loads((tmp_path / "headline.json").read_text())
    assert records[1] == {
        "percent": 10,
        "stage": 2,
        "seed": 0,
        "demonstrations": 200,
        "practice_episodes": 1000,
        "n_success": 70,
        "n_episodes": 100,
        "n_success_last": 68,
        "algorithm": "recipe",
    }
    figure = (tmp_path / "headline.svg").read_text()
    texts = set(re.findall(r">([^<>]+)</text>", figure))
    assert {"10 %", "600 demonstrations", "Stage 1", "after practice"} <= texts


def test_measure_stages_with_a_finished_stage_one_runs_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands_run: list[str] = []
    config = ReproduceConfig(out=tmp_path, fractions=(10,), seeds=(3,))
    recipe = headline.recipe_for(config, seed=3, percent=10)
    for run in (recipe.sft.out, recipe.improve.out):
        run.mkdir(parents=True)
    (recipe.sft.out / "FINISHED").touch()
    assert recipe.improve.practice.max_env_steps == config.practice_steps
    assert (recipe.sft.fraction, recipe.sft.training.seed) == (0.1, 3)

    def improve(config: object, on_progress: object) -> None:
        commands_run.append("improve")
        line = {"step": 1, "practice/episodes": 12}
        (recipe.improve.out / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        checkpoints = recipe.improve.out / "checkpoints"
        for link, step in (("policy", "000004"), ("last", "000008")):
            (checkpoints / step).mkdir(parents=True)
            (checkpoints / link).symlink_to(step)

    def evaluate(config: object, on_progress: object) -> Evaluation:
        commands_run.append("eval")
        return evaluation(won=7, lost=3)

    monkeypatch.setattr(running, "run_improve", improve)
    monkeypatch.setattr(running, "run_eval", evaluate)
    measurements = list(headline.measure_stages(recipe, 3, 10, 200, ignore_progress))
    assert commands_run == ["eval", "improve", "eval", "eval"], "the last policy as well"
    assert [m.practice_episodes for m in measurements] == [0, 12]
    assert {(m.n_success, m.n_episodes) for m in measurements} == {(7, 10)}
