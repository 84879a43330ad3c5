"""The whole fleet over time, from the files of a run."""

from pathlib import Path

import pytest

from nearer.console.fleet_view import FleetView, open_questions
from nearer.console.replay import Replay
from nearer.core.errors import NearerError
from nearer.evaluation.person_audit import QUESTIONS, Question, Questions
from nearer.runs.files import append_line
from nearer.runs.json_files import append_document
from nearer.runs.ledger import ANSWER, LEDGER, Entry, Ledger
from nearer.runs.metrics import METRICS


def log(run: Path, step: int, **changes: object) -> None:
    record: dict[str, object] = {
        "step": step,
        "practice/episodes": 10 * step,
        "practice/iteration_episodes": 10,
        "practice/detected": 5,
        "practice/progress_steps": float(step),
        "time/elapsed_s": 36.0 * step,
    }
    append_line(run / METRICS, record | changes)


def answer(run: Path, question: int, text: str, at_s: float = 0.0) -> None:
    entry = Entry(
        key=f"{question} {text} {at_s}",
        at_s=at_s,
        who="operate@here",
        action=ANSWER + text,
        robot=0,
        episode=None,
        question=question,
        seen="",
        note="",
    )
    assert Ledger(run / LEDGER).add(entry)


def ask(run: Path, iteration: int, first: int, detected: list[bool]) -> None:
    questions = tuple(
        Question(
            number=first + row,
            robot=0,
            seed=2**60 + row,
            instruction="push",
            detected=fired,
            progress_steps=3.0,
        )
        for row, fired in enumerate(detected)
    )
    append_document(run / QUESTIONS, Questions(iteration=iteration, questions=questions))


def test_an_empty_run_has_nothing_to_show(tmp_path: Path) -> None:
    view = FleetView(tmp_path, 2).latest()
    assert (view["episodes"], view["curve"], view["rates"]) == (0, [], {})
    assert open_questions(tmp_path) == []
    assert Replay(tmp_path).episodes() == []


def test_long_runs_become_few_points_and_no_episode_is_lost(tmp_path: Path) -> None:
    for step in range(1, 101):
        log(tmp_path, step)
    view = FleetView(tmp_path, 2).latest()
    curve = view["curve"]
    assert isinstance(curve, list)
    assert len(curve) == 34  # three iterations each
    assert curve[0] == {
        "episodes": 30,
        "value": 0.5,
        "n": 30,
        "progress": 2.0,
        "low": pytest.approx(0.331, abs=1e-3),
        "high": pytest.approx(0.669, abs=1e-3),
    }
    assert (view["episodes"], view["episodes_an_hour"], view["robot_hours"]) == (1000, 1000, 2.0)


def test_the_view_is_read_again_when_a_file_has_changed(tmp_path: Path) -> None:
    fleet = FleetView(tmp_path, 1)
    log(tmp_path, 1)
    first = fleet.latest()
    assert fleet.latest() is first
    ask(tmp_path, 0, 0, [True, False])
    answer(tmp_path, 0, "yes", at_s=30.0)
    answer(tmp_path, 1, "cannot tell", at_s=45.0)
    answer(tmp_path, 1, "no", at_s=70.0)  # corrected
    view = fleet.latest()
    rates = view["rates"]
    assert isinstance(rates, dict)
    assert rates["success"]["value"] == 0.5
    assert rates["precision"]["n"] == 1
    assert (view["by"], view["human_minutes"]) == ("person", 2)
    assert view["audits"] == [{"episodes": 10, **rates["success"]}]


def test_a_damaged_file_is_a_sentence_on_the_page(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text("not JSON\n" * 2)
    assert "metrics.jsonl" in str(FleetView(tmp_path, 1).latest()["error"])


def test_open_questions_are_those_without_an_answer_and_say_nothing_of_the_detector(
    tmp_path: Path,
) -> None:
    ask(tmp_path, 4, 7, [True, False])
    answer(tmp_path, 7, "no")
    assert open_questions(tmp_path) == [
        {
            "question": 8,
            "iteration": 4,
            "seed": str(2**60 + 1),
            "robot": 0,
            "instruction": "push",
        }
    ]


def test_an_episode_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NearerError, match="must be an episode 3, got none"):
        Replay(tmp_path).episode(3)
    assert Replay(tmp_path).clip(3) is None
