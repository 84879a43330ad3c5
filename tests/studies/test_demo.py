"""The lines that a demo prints."""

from pathlib import Path

from nearer.evaluation.success import EpisodeResult, Evaluation, compare
from nearer.studies.demo import DemoResult


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
