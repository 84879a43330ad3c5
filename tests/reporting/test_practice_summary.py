"""What a person is told before practice, and after it."""

import shutil
from pathlib import Path

from nearer.reporting.practice_summary import after_practice, before_practice
from nearer.runs.metrics import METRICS


def test_before_practice_without_calibration_or_doubt_says_nothing(
    stage_one: Path, tmp_path: Path
) -> None:
    assert before_practice(tmp_path, None) == []
    assert before_practice(tmp_path, 3.0) == []
    assert before_practice(stage_one / "sft", 1e6) == [], "no curve goes so far"


def test_before_practice_names_a_detector_that_finds_nothing(stage_one: Path) -> None:
    first, second = before_practice(stage_one / "sft", 0.0)
    assert first == "the detector cannot fire at a threshold of 0 steps; pass --threshold"
    assert "finds none of the 5 successes among the 5 held-out demonstrations" in second


def test_after_practice_of_a_run_that_has_done_nothing_says_so(
    stage_one: Path, tmp_path: Path
) -> None:
    shutil.copyfile(stage_one / "sft/run.json", tmp_path / "run.json")
    (tmp_path / METRICS).write_text("")
    practised, audits = after_practice(tmp_path)
    assert practised.endswith(
        "0 of 0 episodes detected, 0 control steps; the policy kept is Stage 1's"
    )
    assert audits == "audits     none: whether the detections were right is not known"
