"""`nearer reproduce`: what is finished is not run again, and its table is printed."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from document_values import evaluation, info_of
from nearer.cli import main
from nearer.configs.reproduce import ReproduceConfig
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames
from nearer.evaluation.eval_info import write_eval_info
from nearer.runs.files import append_line
from nearer.studies.headline import recipe_for, without_deviations
from nearer.studies.reproduce import main as print_table


def finish(config: ReproduceConfig) -> None:
    """Write a data set of ten demonstrations and what both stages leave when they are finished."""
    features = {"action": Feature(dtype="float32", shape=(2,))}
    writer = DatasetWriter.create(config.out / "demonstrations", features, fps=10)
    action = np.zeros((2, 2), np.float32)
    writer.append([EpisodeFrames(task="push", columns={"action": action})] * 10)
    (config.out / "demonstrations/COMPLETE").touch()
    recipe = recipe_for(config, config.seeds[0], config.fractions[0])
    algorithm_1 = without_deviations(recipe, config).improve.out
    for run, successes in ((recipe.sft.out, 3), (recipe.improve.out, 9), (algorithm_1, 6)):
        for step in ("000000", "000001"):
            (run / "checkpoints" / step).mkdir(parents=True)
            (run / "checkpoints" / step / "COMPLETE").touch()
        for link in ("policy", "last"):
            (run / "checkpoints" / link).symlink_to("000001")
        (run / "FINISHED").touch()
        append_line(run / "metrics.jsonl", {"step": 1, "practice/episodes": 120})
        write_eval_info(run / "eval/eval_info.json", info_of(evaluation(successes, 12), "env"))


def test_reproduce_headline_of_finished_runs_prints_their_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(ReproduceConfig(out=tmp_path, fractions=(20,), seeds=(1,)))
    main(["reproduce", "headline", "--out", str(tmp_path), "--fractions", "20", "--seeds", "1"])
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("| 20 "))
    assert "0.250 [" in row
    assert "0.750 [" in row
    assert any(line.startswith("| 20 %, algorithm 1 ") for line in printed.splitlines())
    assert "| 120 practised | 0.750 |" in (tmp_path / "efficiency.md").read_text()
    assert (tmp_path / "headline.md").read_text().strip() in printed
    assert (tmp_path / "headline.svg").exists()


def test_main_in_a_narrow_console_breaks_no_row(tmp_path: Path) -> None:
    config = ReproduceConfig(out=tmp_path, fractions=(20,), seeds=(1,))
    finish(config)
    console = Console(width=20, record=True)
    print_table(config, console)
    table = (tmp_path / "headline.md").read_text()
    assert set(table.splitlines()) <= set(console.export_text().splitlines())
