"""The section on perception: rates by stage, frames with markers, everything escaped."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from nearer.evaluation.perception_document import Perception, write_perception
from nearer.reporting.html.perception import perception
from nearer.reporting.html.run_data import Report
from perception_values import HEIGHT, WIDTH, frame_images, perception_of
from report_values import EVIL, evaluated, pair, report_of, solving, words


def with_perception(report: Report, tmp_path: Path, shown: Perception) -> Report:
    """Return the report with recorded perception of its first run of each stage."""
    recorded = replace(evaluated(solving(1, 2)), perception=shown)
    changed = pair(report, recorded, recorded)
    for run in changed.runs:
        write_perception(tmp_path / run.name / "eval", shown, frame_images(len(shown.frames)))
    return report_of(
        [replace(run, root=tmp_path / run.name) for run in changed.stage_one],
        [replace(run, root=tmp_path / run.name) for run in changed.stage_two],
    )


@pytest.fixture
def html(report: Report, tmp_path: Path) -> str:
    """The section about two evaluations whose instructions name one object."""
    return perception(with_perception(report, tmp_path, perception_of(4)))


def test_perception_of_runs_without_any_is_nothing(report: Report) -> None:
    assert perception(report) == ""


def test_perception_has_the_rates_of_both_stages(html: str) -> None:
    text = words(html)
    assert text.count("50.0 %") == 4, "all frames and those far from the effector, two stages"
    for stage in ("Stage 1", "Stage 2"):
        assert f"first object {stage} 50.0 %" in text
        assert f"second object {stage}" not in text, "no instruction names a second object"
    assert "no frames" in text, "covered by the effector"
    assert "used in evaluation only" in text


def test_perception_shows_every_frame_with_its_markers(html: str) -> None:
    frames = re.findall(r'<svg class="frame".*?</svg>', html, flags=re.DOTALL)
    assert len(frames) == 2 * 4
    for frame in frames:
        assert f'viewBox="0 0 {WIDTH} {HEIGHT}"' in frame
        assert 'href="data:image/png;base64,' in frame
        assert (frame.count("<line"), frame.count("<circle")) == (2, 4), "two objects are named"
        assert 'cx="4.00" cy="6.00"' in frame, "the believed position"
        assert 'fill-opacity="0.90"' in frame
        assert 'cx="8.00" cy="6.00"' in frame, "the true position"


def test_perception_names_rule_and_error_of_frames(html: str) -> None:
    text = words(html)
    assert "The first episodes, frames evenly spaced from first to last" in text
    assert "The largest errors, one frame an episode" in text
    assert "“push the red moon”, step 3 first 30 mm off" in text


def test_perception_with_markup_in_an_instruction_escapes_it(
    report: Report, tmp_path: Path
) -> None:
    shown = perception_of(1, instruction=EVIL)
    html = perception(with_perception(report, tmp_path, shown))
    assert "<script" not in html
    assert "<b>bold" not in html
