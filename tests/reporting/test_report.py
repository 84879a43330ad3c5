"""The page about runs: self-contained, escaped, honest about what is missing."""

import json
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from document_values import AUDIT, calibration, drawn, evaluation, header, info_of
from nearer.core.errors import ConfigError
from nearer.evaluation.audit import AUDITS
from nearer.evaluation.calibration import write_calibration
from nearer.evaluation.eval_info import write_eval_info
from nearer.reporting.html.page import write_report
from nearer.runs.documents import (
    Demonstrations,
    Rollouts,
    write_demonstrations,
    write_header,
    write_rollouts,
)
from nearer.runs.hub import EVALUATION
from nearer.runs.json_files import read_lines, write_documents

EVIL = "<script>alert('pwned')</script> & <b>bold</b>"
ALARM = "the detector's precision fell to 0.500"
ENV = "nearer/PointMass-v0"
PICTURED = "other/Arm-v1"


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_evaluation(
    run: Path,
    successes: int,
    episodes: int,
    *,
    num_steps: int = 10,
    seed: int = 0,
    instruction: str = "touch the goal",
    env: str = ENV,
) -> None:
    made = evaluation(successes, episodes, num_steps=num_steps, seed=seed)
    results = tuple(replace(result, instruction=instruction) for result in made.results)
    info = info_of(replace(made, results=results), env)
    write_eval_info(run / "eval" / EVALUATION, info)
    shown = (drawn(3), drawn(8, "time_limit"))
    write_rollouts(run / "eval", Rollouts(env=env, episodes=shown))


def write_stage_one_files(run: Path) -> None:
    write_calibration(run, calibration())
    write_demonstrations(run, Demonstrations(episodes=(drawn(5), drawn(1))))


def write_stage_one(run: Path, config: Mapping[str, Any] | None = None) -> Path:
    write_header(run, header("sft", config or {"data": "here", "calibration": {"env": ENV}}))
    write_lines(
        run / "metrics.jsonl",
        [
            {
                "step": step,
                "sft/loss_bc": 2.0,
                "sft/loss_steps_to_go": 4.0,
                "sft/val_loss_bc": bc,
                "sft/val_loss_steps_to_go": 3.5 - step / 1000,
                "time/elapsed_s": step / 10,
            }
            for step, bc in ((100, 2.0), (200, 1.25), (300, 1.5))
        ],
    )
    return run


def write_third_objective(run: Path) -> Path:
    """Write a Stage-1 run that had the third objective too."""
    write_stage_one(run, {"data": "here", "training": {"other_instructions": 7}})
    records = [
        {
            **record,
            "sft/loss_instruction": 1.5,
            "sft/val_loss_instruction": 1.25,
            "sft/val_accuracy_instruction": 0.64,
        }
        for record in read_lines(run / "metrics.jsonl")
    ]
    write_lines(run / "metrics.jsonl", records)
    return run


def write_stage_two(run: Path, alarm: str | None = None) -> Path:
    write_header(run, header("improve", {"run": str(run.parent / "one"), "env": ENV}))
    records: list[dict[str, Any]] = [
        {
            "step": step,
            "practice/episodes": 10 * step,
            "practice/env_steps": 500 * step,
            "practice/iteration_episodes": 10,
            "practice/iteration_env_steps": 500,
            "practice/detected_success": 0.8,
            "practice/episode_length": 50.0,
            "practice/progress_steps": 30.0,
            "practice/return": 5.0,
            "time/elapsed_s": float(step),
        }
        for step in range(1, 6)
    ]
    if alarm:
        records[2]["alarm"] = alarm
    write_lines(run / "metrics.jsonl", records)
    write_documents(run / AUDITS, [replace(AUDIT, iteration=i) for i in range(5)])
    return run


def finish_stage_one(run: Path) -> Path:
    """Write a Stage-1 run that solves 80 of 100 starts."""
    write_stage_one(run)
    write_stage_one_files(run)
    write_evaluation(run, 80, 100, num_steps=60)
    return run


def finish_stage_two(run: Path) -> Path:
    """Write a Stage-2 run that solves 95 of 100 starts."""
    write_stage_two(run)
    write_evaluation(run, 95, 100)
    return run


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return finish_stage_one(tmp_path / "one")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return finish_stage_two(tmp_path / "two")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page about one finished run of each stage, for tests that only read it."""
    root = tmp_path_factory.mktemp("finished")
    return page(finish_stage_one(root / "one"), finish_stage_two(root / "two"))


def page(*runs: Path) -> str:
    return write_report(runs, runs[0].parent / "out" / "report.html").read_text()


def words(html: str) -> str:
    """Return what a reader sees, without markup and with single spaces."""
    seen: list[str] = []
    parser = HTMLParser()
    parser.handle_data = seen.append
    parser.feed(re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL))
    return " ".join(" ".join(seen).split())


def test_the_page_loads_nothing_from_elsewhere(finished: str):
    linked = re.findall(r"""(?:src|href|action|data)\s*=\s*["']([^"']*)""", finished)
    linked += re.findall(r"url\(([^)]*)\)", finished)
    assert linked
    assert [link for link in linked if not link.startswith(("#", "data:image/png;base64,"))] == []
    assert "<script" not in finished
    assert "@import" not in finished
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"'\s<]+", finished)) == namespaces


def test_ids_are_unique_and_every_reference_has_its_target(finished: str):
    ids = re.findall(r'\sid="([^"]+)"', finished)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', finished)) <= set(ids)


def test_success_before_and_after_stands_in_the_text_with_n_and_interval(finished: str):
    seen = words(finished)
    assert "80.0 % 95 % interval 71.1 to 86.7 %, n = 100" in seen
    assert "95.0 % 95 % interval 88.8 to 97.8 %, n = 100" in seen
    assert "Mean episode, control steps 76.0 → 16.5" in seen
    assert "Episodes practised 50 2,500 control steps" in seen
    assert "Training, seconds 30.0 + 5.0" in seen


def test_the_same_starts_are_compared_pair_by_pair(finished: str):
    seen = words(finished)
    assert "on the same 100 starts: 15 solved by Stage 2 only , 0 by Stage 1 only" in seen
    assert "saves 59.5 control steps" in seen


def test_different_starts_are_not_compared(one: Path, two: Path):
    write_evaluation(two, 95, 100, seed=1)
    seen = words(page(one, two))
    assert "No paired comparison" in seen
    assert "start and goal; the data's differ" not in seen


def test_calibration_and_audits_are_said_in_numbers(finished: str):
    seen = words(finished)
    assert "s = 1 control steps: the best recall." in seen
    assert "labelled rollouts 90.0 % 69.9 to 97.2 %, n = 20 45.0 %" in seen
    assert "precision 100.0 % (95 % interval 91.2 to 100.0 %, n = 40)" in seen
    assert "1.250 nats at update 200" in seen


def test_whatever_files_hold_is_text_never_markup(tmp_path: Path):
    config = {"data": EVIL, EVIL: {"nested": EVIL}}
    run = write_stage_one(tmp_path / "<i>one", config)
    write_evaluation(run, 3, 4, instruction=EVIL, env=EVIL)
    html = page(run, write_stage_two(tmp_path / "<i>two", alarm=EVIL))
    assert "<script" not in html
    assert "<b>bold" not in html
    assert "<i>two" not in html
    assert html.count("&lt;script&gt;alert(&#x27;pwned&#x27;)&lt;/script&gt;") >= 4


def test_the_alarm_banner_stands_exactly_where_a_record_holds_one(finished: str, tmp_path: Path):
    alarmed = page(write_stage_two(tmp_path / "alarmed", alarm=ALARM))
    assert 'role="alert"' not in finished
    assert alarmed.count('role="alert"') == 1
    assert f"Alarm in alarmed: {ALARM}" in words(alarmed)
    assert "Raised once, at iteration 3." in words(alarmed)


def test_without_evaluation_or_calibration_sections_name_the_command(tmp_path: Path):
    seen = words(page(write_stage_one(tmp_path / "one"), write_stage_two(tmp_path / "two")))
    assert f"nearer eval --checkpoint {tmp_path}/one --env {ENV}" in seen
    assert f"nearer eval --checkpoint {tmp_path}/two --env {ENV}" in seen
    assert "nearer sft --resume --out RUN" in seen
    assert "nearer sft --data DATASET --calibration.env ID" in seen


@pytest.mark.parametrize("given", [("one",), ("two",), ("two", "other"), ("one", "two", "other")])
def test_any_subset_of_runs_makes_a_page(one: Path, two: Path, given: tuple[str, ...]):
    write_stage_two(two.parent / "other")
    seen = words(page(*(one.parent / name for name in given)))
    assert all(str(one.parent / name) in seen for name in given)
    assert ("Nothing has practised yet" in seen) == (given == ("one",))
    assert ("No Stage-1 run among these" in seen) == ("one" not in given)


def test_missing_and_nan_numbers_are_dashes(tmp_path: Path):
    run = tmp_path / "two"
    write_header(run, header("improve", {}))
    records = [{"step": 1, "practice/episodes": None, "practice/return": float("nan")}, {"step": 2}]
    write_lines(run / "metrics.jsonl", records)
    assert "Episodes practised –" in words(page(run))


def test_a_run_that_has_just_begun_makes_a_page(tmp_path: Path):
    write_header(tmp_path / "one", header("sft", {}))
    write_header(tmp_path / "two", header("improve", {}))
    seen = words(page(tmp_path / "one", tmp_path / "two"))
    assert "No validation yet" in seen
    assert "No Stage-2 run with a finished iteration" in seen


@pytest.fixture
def filmed(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs in an env with pictures; Stage 1 solves the first 2 of 4 starts, Stage 2 all."""
    one = write_stage_one(tmp_path / "one", {"calibration": {"env": PICTURED}})
    two = write_stage_two(tmp_path / "two")
    for run, successes in ((one, 2), (two, 4)):
        write_evaluation(run, successes, 4, instruction=EVIL, env=PICTURED)
        write_films(run, 3)
    return one, two


def write_films(run: Path, count: int, num_bytes: int = 9) -> None:
    folder = run / "eval/videos"
    folder.mkdir(exist_ok=True)
    for index in range(count):
        (folder / f"{index}.mp4").write_bytes(f"{run.name} {index}".encode().ljust(num_bytes))
        (folder / f"{index}.jpg").write_bytes(b"still")


def cards(html: str) -> list[str]:
    return re.findall("<article.*?</article>", html, flags=re.DOTALL)


def test_films_of_the_same_start_stand_side_by_side_stage_one_left(filmed: tuple[Path, Path]):
    html = page(*filmed)
    found = cards(html)
    assert len(found) == 3
    for index, card in enumerate(found):
        shown = re.findall(r'<video src="data:video/mp4;base64,([^"]+)"', card)
        assert [b64decode(one).decode().strip() for one in shown] == [
            f"one {index}",
            f"two {index}",
        ]
        assert card.count('poster="data:image/jpeg;base64,') == 2
        assert words(card).index("Stage 1") < words(card).index("Stage 2")
    assert "Stage 1 ✓ success after 10 steps Stage 2 ✓ success after 10 steps" in words(found[0])
    assert "Stage 1 ✗ not within 140 steps Stage 2 ✓ success after 10 steps" in words(found[2])
    for wanted in ("autoplay", "muted", "loop", "controls", "playsinline"):
        assert html.count(f' {wanted}=""') == 6
    assert "<script" not in html
    assert "<b>bold" not in html
    links = re.findall(r"""(?:src|href|poster)\s*=\s*["']([^"']*)""", html)
    assert all(re.match("#|data:(image|video)/(png|jpeg|mp4);base64,", link) for link in links)


def test_an_episode_that_the_env_ended_is_not_called_a_time_limit(filmed: tuple[Path, Path]):
    write_evaluation(filmed[0], 0, 4, instruction=EVIL, env=PICTURED)
    seen = words(cards(page(*filmed))[1])
    assert "Stage 1 ✗ ended by the env after 8 steps, without success" in seen


def test_starts_that_differ_are_not_put_side_by_side(filmed: tuple[Path, Path]):
    write_evaluation(filmed[1], 4, 4, seed=1, instruction=EVIL, env=PICTURED)
    html = page(*filmed)
    assert [card.count("<video") for card in cards(html)] == [1] * 6
    assert "The same starts" not in words(html)


def test_many_large_films_leave_the_page_light(filmed: tuple[Path, Path]):
    for run in filmed:
        write_films(run, 3, num_bytes=600_000)
    html = page(*filmed)
    assert len(cards(html)) == 2
    assert "Left out, to keep the page light: 1 more." in words(html)
    assert len(html) < 5_000_000


def test_without_films_the_command_is_named_and_nothing_is_drawn(tmp_path: Path):
    run = write_stage_one(tmp_path / "one", {"calibration": {"env": PICTURED}})
    write_evaluation(run, 5, 10, env=PICTURED)
    seen = words(page(run))
    assert f"they come with nearer eval --checkpoint {run} --env {PICTURED}" in seen
    assert "Paths of the first episodes" not in seen
    assert "circle" not in seen


def asking(run: Path, asked: Sequence[tuple[str, bool]]) -> None:
    """Rewrite an evaluation: what was asked, and whether it was done."""
    made = evaluation(len(asked), len(asked), num_steps=5)
    results = tuple(
        replace(result, instruction=instruction, success=done)
        for result, (instruction, done) in zip(made.results, asked, strict=True)
    )
    write_eval_info(run / "eval" / EVALUATION, info_of(replace(made, results=results), ENV))


def labels(html: str) -> list[str]:
    """Return the row names of the figure about instructions."""
    found = re.search('<section id="asked".*?</section>', html, flags=re.DOTALL)
    return re.findall(r">([^<>]+, n = [\d,]+)<", found[0]) if found else []


def test_one_instruction_needs_no_section(finished: str):
    assert labels(finished) == []
    assert 'href="#asked"' not in finished


def test_a_few_instructions_are_shown_one_by_one_hardest_first(one: Path):
    asking(one, [("push it", True), ("<b>pull", False), ("pull it", True), ("push it", True)])
    html = page(one)
    assert labels(html) == [
        "all starts, n = 4",
        "&lt;b&gt;pull, n = 1",
        "pull it, n = 1",
        "push it, n = 2",
    ]
    assert 'href="#asked"' in html


def test_hundreds_of_instructions_are_grouped_by_word(one: Path):
    colours = ["red"] * 40 + ["blue"] * 60
    asked = [
        (f"push the {colour} cube to {i}", colour == "blue") for i, colour in enumerate(colours)
    ]
    asking(one, asked)
    html = page(one)
    assert labels(html) == ["all starts, n = 100", "red, n = 40", "blue, n = 60"]
    assert "“push the red cube to 0” and 99 other instructions" in words(html)
    assert "Different instructions 100" in words(html)


def test_a_late_checkpoint_that_starts_the_policy_is_said(tmp_path: Path):
    late = {"training": {"policy_checkpoint": "last"}}
    seen = words(page(write_stage_one(tmp_path / "one", late)))
    assert "Last: policy 1.500 nats at update 300" in seen
    assert "Best held-out: reward model 3.200 nats at update 300" in seen
    assert "The last checkpoint starts the policy" in seen
    assert "The one with the best held-out steps-to-go loss becomes reward" in seen


def test_a_late_checkpoint_that_becomes_the_reward_is_said(tmp_path: Path):
    late = {"training": {"reward_checkpoint": "last"}}
    seen = words(page(write_stage_one(tmp_path / "one", late)))
    assert "Last: reward model" in seen
    assert "The last one becomes reward and success detector" in seen


def test_the_third_objective_is_shown_where_it_was_trained(tmp_path: Path, one: Path):
    assert "Instruction" not in words(page(one))
    seen = words(page(write_third_objective(tmp_path / "three")))
    assert "Instruction told from 7 others, held-out 64.0 %, by chance 12.5 %" in seen
    assert "The third objective chooses no checkpoint" in seen


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, one: Path):
    with pytest.raises(ConfigError, match=r"got .*/nothing without a run\.json"):
        page(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="one or more run folders"):
        write_report([], tmp_path / "report.html")
    (one / "calibration.json").write_text('{"threshold_steps": 1.0}')
    with pytest.raises(ConfigError, match=r"calibration\.json must be as this version of nearer"):
        page(one)


def test_an_unwritable_page_is_a_sentence(one: Path):
    with pytest.raises(ConfigError, match="--out must be a file that can be written"):
        write_report([one], one)


def test_the_page_is_light_and_the_same_each_time(one: Path):
    first, second = page(one), page(one)
    assert first == second
    assert len(first) < 300_000
