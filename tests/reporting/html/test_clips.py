"""Videos of evaluations in the page, side by side by start."""

import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nearer.reporting.html.clips import MAX_BYTES, side_by_side
from nearer.reporting.html.run_data import Report
from nearer.reporting.videos import Video, make_video, write_video
from report_values import EVIL, evaluated, pair, rollout, words

ENV = "other/Arm-v1"
VIDEO = make_video(np.zeros((2, 16, 16, 3), np.uint8), 10, success=False)


def give_videos(run: Path, count: int, video: Video = VIDEO) -> None:
    """Write videos where nearer eval writes them; each ends with the name of its run and start."""
    for index in range(count):
        marked = replace(video, mp4=video.mp4 + f"{run.name} {index}".encode())
        write_video(marked, run / "eval/videos", index)


def outcomes(successes: int) -> list[tuple[str, bool]]:
    return [(EVIL, index < successes) for index in range(4)]


@pytest.fixture
def with_videos(report: Report, tmp_path: Path) -> Report:
    """Both runs with three videos each; Stage 1 solves the first 2 of 4 starts, Stage 2 all."""
    changed = pair(report, evaluated(outcomes(2), env=ENV), evaluated(outcomes(4), env=ENV))
    return moved(changed, tmp_path)


def moved(report: Report, root: Path) -> Report:
    """Return the report with run folders of its own that have three videos each."""
    stage_one, stage_two = report.stage_one[0], report.stage_two[0]
    stage_one = replace(stage_one, root=root / "first")
    stage_two = replace(stage_two, root=root / "second", before=stage_one)
    for run in (stage_one, stage_two):
        give_videos(run.root, 3)
    return replace(report, stage_one=(stage_one,), stage_two=(stage_two,))


def cards(html: str) -> list[str]:
    return re.findall("<article.*?</article>", html, flags=re.DOTALL)


def marks(card: str) -> list[str]:
    """Return which run and start each video of a card is of."""
    encoded = re.findall(r'<video src="data:video/mp4;base64,([^"]+)"', card)
    return [b64decode(mp4)[len(VIDEO.mp4) :].decode() for mp4 in encoded]


def test_side_by_side_of_equal_starts_puts_stage_one_left_of_stage_two(with_videos: Report) -> None:
    html = side_by_side(with_videos)
    assert [marks(card) for card in cards(html)] == [
        [f"first {i}", f"second {i}"] for i in range(3)
    ]
    assert html.count('poster="data:image/jpeg;base64,') == 6
    texts = [words(card) for card in cards(html)]
    assert "Stage 1 ✓ success after 10 steps Stage 2 ✓ success after 10 steps" in texts[0]
    assert "Stage 1 ✗ no success within 140 steps Stage 2 ✓ success after 10 steps" in texts[2]


def test_side_by_side_videos_play_and_loop_by_themselves(with_videos: Report) -> None:
    html = side_by_side(with_videos)
    for attribute in ("autoplay", "muted", "loop", "controls", "playsinline"):
        assert html.count(f' {attribute}=""') == 6


def test_side_by_side_markup_in_instructions_is_escaped(with_videos: Report) -> None:
    html = side_by_side(with_videos)
    assert "<script" not in html
    assert "<b>bold" not in html
    assert f"“{EVIL}”" in words(html)


def test_side_by_side_of_an_episode_ended_by_the_env_says_so(
    report: Report, tmp_path: Path
) -> None:
    short = evaluated(outcomes(0), env=ENV, rollouts=[rollout(8, success=False)] * 4)
    html = side_by_side(moved(pair(report, short, short), tmp_path))
    assert "ended by the env after 8 steps without success" in words(html)


def test_side_by_side_of_different_starts_keeps_them_apart(report: Report, tmp_path: Path) -> None:
    first, second = evaluated(outcomes(2), env=ENV), evaluated(outcomes(4), env=ENV, seed=1)
    html = side_by_side(moved(pair(report, first, second), tmp_path))
    assert [card.count("<video") for card in cards(html)] == [1] * 6
    assert "The same starts" not in words(html)
    assert "Videos of the first starts" in words(html)


def test_side_by_side_of_large_videos_stays_within_the_limit(with_videos: Report) -> None:
    large = replace(VIDEO, mp4=VIDEO.mp4 + bytes(600_000))
    for run in with_videos.runs:
        give_videos(run.root, 3, large)
    html = side_by_side(with_videos)
    assert len(cards(html)) == 2
    assert "1 more are left out to keep the page small." in words(html)
    assert len(html) < MAX_BYTES + 100_000


def test_side_by_side_without_videos_names_the_command(report: Report) -> None:
    without = pair(report, evaluated(outcomes(1), env=ENV), None)
    html = side_by_side(without)
    assert cards(html) == []
    stage_one, stage_two = without.runs
    assert f"they come with nearer eval --checkpoint {stage_one.shown_root}" in words(html)
    assert f"make them with nearer eval --checkpoint {stage_two.shown_root}" in words(html)


def test_side_by_side_of_a_video_without_poster_shows_the_video(with_videos: Report) -> None:
    (with_videos.runs[0].root / "eval/videos/0.jpg").unlink()
    html = side_by_side(with_videos)
    assert html.count("<video") == 6
    assert html.count("poster=") == 5
