"""A demo: its steps, with the evaluation of Stage 1 beside practice, and the lines it prints."""

from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest

from nearer.core.callbacks import ignore_progress
from nearer.core.errors import CheckpointError
from nearer.evaluation.success import EpisodeResult, Evaluation, compare
from nearer.studies import running
from nearer.studies.demo import DemoResult, run_demo
from nearer.studies.point_mass import point_mass
from nearer.studies.running import evaluated_beside, load_or_run_eval


def evaluation(successes: list[bool], num_steps: int) -> Evaluation:
    results = [
        EpisodeResult(
            seed=i, instruction="go", success=success, num_steps=num_steps, actions_outside=0
        )
        for i, success in enumerate(successes)
    ]
    return Evaluation(results=tuple(results), seed=0, max_steps=60, seconds=1.0)


def test_demo_result_lines_report_both_stages_and_the_paired_starts() -> None:
    before = evaluation([True, False, False, False], num_steps=20)
    after = evaluation([True, True, True, False], num_steps=15)
    result = DemoResult(
        before=before,
        after=after,
        paired=compare(before, after),
        practice_episodes=1200,
        practice_env_steps=20_000,
        seconds={"demos": 1.0, "sft": 2.0, "practice": 3.0, "total": 61.4},
        report=Path("out/report.html"),
    )
    stage_1, stage_2, paired, practice, report = result.lines()
    assert stage_1.startswith("Stage 1   success 0.250 [")
    assert stage_2.startswith("Stage 2   success 0.750 [")
    assert "2 starts solved by Stage 2 alone, 0 by Stage 1 alone" in paired
    assert practice == "practice  1,200 episodes, 20,000 env steps; 61 s in all"
    assert report.endswith("out/report.html")


def test_run_demo_evaluates_stage_1_in_a_process_beside_practice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(*_: object) -> Evaluation:
        raise AssertionError("evaluated in this process")

    monkeypatch.setattr(running, "run_eval", run_here)
    recipe = point_mass(tmp_path, quick=True)
    result = run_demo(recipe, ignore_progress)
    assert result.before.success.total == result.after.success.total == recipe.eval_sft.episodes
    assert result.before.seed == recipe.eval_sft.seed
    assert result.report.is_file()
    assert result.seconds["total"] > result.seconds["practice"] > 0


def test_evaluation_beside_that_fails_is_run_again_and_says_why(tmp_path: Path) -> None:
    config = replace(point_mass(tmp_path, quick=True).eval_sft, checkpoint=tmp_path / "nothing")
    with evaluated_beside(config):
        pass
    assert not list(tmp_path.rglob("eval_info.json"))
    with pytest.raises(CheckpointError, match="nothing"):
        load_or_run_eval(config, ignore_progress)


def test_evaluation_beside_ends_with_a_block_that_fails(tmp_path: Path) -> None:
    config = point_mass(tmp_path, quick=True).eval_sft
    with pytest.raises(ZeroDivisionError), evaluated_beside(config):
        _ = 1 / 0
    assert not active_children()
